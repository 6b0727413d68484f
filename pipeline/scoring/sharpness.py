"""How sharp an image is by itself: the metric of quality without a reference. Not a stage.

NIQE, BRISQUE and the like need fitted models that no library here brings.
"""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def blur(image: Image, clean: Image) -> float:
    """How blurred an image is, without a reference: 0 (sharp) to 1, by scikit-image's blur_effect.

    Source: Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur
    metric", SPIE 2007.
    """
    from skimage.measure import blur_effect

    return float(blur_effect(image, h_size=11, channel_axis=2))
