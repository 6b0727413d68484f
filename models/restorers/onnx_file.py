"""Restorers as ONNX files, which run without PyTorch and without this project.

The graph in a file follows the restorers' contract: (N, 3, H, W) float32 in [0, 1] in and out, any N, H and W. It
extends images to sizes that the network takes, by reflection, and cuts and clips the result.
"""

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import RestorerError
from .contract import Restorer

INPUT, OUTPUT = "images", "restored"
ENTRY = "restorer"  # the entry of the file's metadata with the restorer's name and settings
FORMAT = "restoration-for-recognition/onnx/1"
LARGEST_SIDE = 2**16  # pixels: the exporter needs an upper bound
SAMPLE_BLOCKS = (8, 6)  # height and width, in multiples, of the images that the network is traced with
LONGEST_REASON = 200  # characters of another library's message

BEFORE = """
<ir_version: {ir}, opset_import: ["": {opset}]>
before (float[N, 3, H, W] images) => (float[N, 3, PH, PW] padded, int64[2] size) {{
  one = Constant<value_ints = [1]>()
  multiple = Constant<value_ints = [{multiple}]>()
  least = Constant<value_ints = [{least}]>()
  zero_index = Constant<value_int = 0>()
  one_index = Constant<value_int = 1>()
  size = Shape<start = 2, end = 4>(images)
  last = Sub(size, one)
  raised = Add(last, multiple)
  blocks = Div(raised, multiple)
  whole = Mul(blocks, multiple)
  target = Max(whole, least)
  last_whole = Sub(whole, one)
  added = Sub(whole, size)
  enough = Less(added, size)
  enough_number = Cast<to = 7>(enough)
  both = ReduceMin<keepdims = 0>(enough_number)
  can_reflect = Cast<to = 9>(both)
  {rows}
  {columns}
  tall = Gather<axis = 2>(images, rows_index)
  padded = Gather<axis = 3>(tall, columns_index)
}}
"""
# The source of each padded row (or column): i up to the last row, then reflected, or the last row repeated.
INDEX = """
  {axis}_target = Gather<axis = 0>(target, {place}_index)
  {axis}_last = Gather<axis = 0>(last, {place}_index)
  {axis}_last_whole = Gather<axis = 0>(last_whole, {place}_index)
  {axis}_all = Range(zero_index, {axis}_target, one_index)
  {axis}_inside = Min({axis}_all, {axis}_last_whole)
  {axis}_past = Sub({axis}_inside, {axis}_last)
  {axis}_distance = Abs({axis}_past)
  {axis}_reflected = Sub({axis}_last, {axis}_distance)
  {axis}_repeated = Min({axis}_inside, {axis}_last)
  {axis}_index = Where(can_reflect, {axis}_reflected, {axis}_repeated)
"""
AFTER = """
<ir_version: {ir}, opset_import: ["": {opset}]>
after (float[N, 3, PH, PW] raw, int64[2] end) => (float[N, 3, H, W] restored) {{
  start = Constant<value_ints = [0, 0]>()
  axes = Constant<value_ints = [2, 3]>()
  black = Constant<value_float = 0.0>()
  white = Constant<value_float = 1.0>()
  cut = Slice(raw, start, end, axes)
  restored = Clip(cut, black, white)
}}
"""


def export_onnx(restorer: Restorer, path: Path) -> None:
    """Write a restorer as one ONNX file.

    Args:
        restorer: in eval mode, on the CPU.
        path: ends in .onnx.

    Raises:
        RestorerError: the network cannot be exported for every size; nothing is written.
    """
    import onnx
    from onnx import compose, parser

    network = _export_network(restorer)
    opset = next(entry.version for entry in network.opset_import if not entry.domain)
    numbers = {"ir": network.ir_version, "opset": opset}
    rows, columns = (INDEX.format(axis=axis, place=place) for axis, place in (("rows", "zero"), ("columns", "one")))
    before = BEFORE.format(
        **numbers, multiple=restorer.multiple, least=smallest_input(restorer), rows=rows, columns=columns
    )
    network = compose.add_prefix(network, "network/")
    model = compose.merge_models(
        parser.parse_model(before),
        network,
        io_map=[("padded", f"network/{INPUT}")],
        outputs=[f"network/{OUTPUT}", "size"],
    )
    model = compose.merge_models(
        model,
        parser.parse_model(AFTER.format(**numbers)),
        io_map=[(f"network/{OUTPUT}", "raw"), ("size", "end")],
        outputs=[OUTPUT],
        producer_name="restoration-for-recognition",
    )
    onnx.helper.set_model_props(model, {ENTRY: json.dumps(_about(restorer), sort_keys=True)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def load_onnx(path: Path) -> Restorer:
    """The restorer in a file that `export_onnx` wrote, run by ONNX Runtime on the CPU.

    It uses as many threads as torch. Its `network` runs the whole graph, and so takes any size, too.

    Raises:
        RestorerError: the file is missing, broken, or was not written by `export_onnx`.
    """
    if not path.is_file():
        raise RestorerError(f"{path}: no such ONNX file")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # a file of any content
        raise RestorerError(f"{path}: not a readable ONNX file ({_reason(error)})") from error
    about = _read_about(session.get_modelmeta().custom_metadata_map)
    if about.get("format") != FORMAT:
        raise RestorerError(f"{path}: not a restorer that `python -m pipeline.commands.deploy` wrote")
    network = _Session(session, about["takes_batches"])
    return Restorer(network, about["name"], about["settings"], about["multiple"]).eval()


def takes_batches(restorer: Restorer) -> bool:
    """Whether the network takes several images at once; some networks of other projects do not."""
    return bool(getattr(restorer.network, "takes_batches", True))


def smallest_input(restorer: Restorer) -> int:
    """The smallest side of an image in pixels; smaller images are extended by repeating their last row or column."""
    return max(int(getattr(restorer.network, "minimum", 0)), restorer.multiple)


def _about(restorer: Restorer) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": restorer.name,
        "settings": restorer.settings,
        "multiple": restorer.multiple,
        "takes_batches": takes_batches(restorer),
    }


def _read_about(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The restorer's description in a file's metadata; empty for a file of another project."""
    try:
        about = json.loads(metadata.get(ENTRY, "{}"))
    except json.JSONDecodeError:
        return {}
    return about if isinstance(about, dict) else {}


def _export_network(restorer: Restorer) -> Any:
    """The network without padding and clipping as an ONNX model, for all sizes that are multiples.

    The exporter cannot derive the sizes of padded images, so it is told that they are multiples.
    """
    if getattr(restorer.network, "square", False):
        raise RestorerError(f"restorer {_title(restorer)} takes square images only, which ONNX files here do not")
    multiple, least = restorer.multiple, -(-smallest_input(restorer) // restorer.multiple)
    most = LARGEST_SIDE // multiple
    shape: dict[int, Any] = {
        2: multiple * torch.export.Dim("rows", min=least, max=most),
        3: multiple * torch.export.Dim("columns", min=least, max=most),
    }
    images = 1
    if takes_batches(restorer):
        shape[0] = torch.export.Dim("images", min=1, max=LARGEST_SIDE)
        images = 2
    height, width = (max(blocks, least + more) * multiple for blocks, more in zip(SAMPLE_BLOCKS, (2, 1), strict=True))
    sample = torch.rand(images, 3, height, width, generator=torch.Generator().manual_seed(0))
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():  # the exporter warns of versions of Python and of torch
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                restorer.network,
                (sample,),
                dynamo=True,
                dynamic_shapes=(shape,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
        assert program is not None  # None is possible without dynamo only
        return program.model_proto
    except Exception as error:  # tracing raises many kinds of errors for networks of other projects
        raise RestorerError(
            f"restorer {_title(restorer)} cannot be exported to ONNX for images of every size ({_reason(error)})"
        ) from error
    finally:
        logger.setLevel(level)


def _title(restorer: Restorer) -> str:
    architecture = restorer.settings.get("architecture")
    return f"{restorer.name} ({architecture})" if architecture else restorer.name


def _reason(error: BaseException) -> str:
    """The message of the first error in the chain of causes, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


class _Session(nn.Module):
    """The graph of an ONNX file as a network, images (N, 3, H, W) in and out."""

    def __init__(self, session: Any, takes_batches: bool) -> None:
        super().__init__()
        self.session = session
        self.takes_batches = takes_batches

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        batches = images.split(len(images) if self.takes_batches else 1)
        restored = [self.session.run([OUTPUT], {INPUT: batch.contiguous().numpy()})[0] for batch in batches]
        return torch.cat([torch.from_numpy(batch) for batch in restored])
