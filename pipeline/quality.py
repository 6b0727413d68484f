"""Stage quality: PSNR and SSIM of degraded and restored images against the clean ones."""

from collections.abc import Callable
from pathlib import Path

from joblib import Parallel, delayed

from data import images
from data.manifest import Dataset, Split
from models.tasks.records import MeanRecords
from pipeline import runtime
from pipeline.fidelity import METRICS, Image
from pipeline.identity import DEGRADED, RECORDS_FILE
from pipeline.params import load_params


def measure(clean: Split, read: Callable[[str], Image]) -> MeanRecords:
    """Every metric for every image of a split; `read` gives the image to compare by its id."""
    rows = Parallel(n_jobs=-1)(delayed(_measure_image)(clean, read, id) for id in clean.ids)
    return MeanRecords.from_values(dict(zip(clean.ids, rows, strict=True)))


def _measure_image(clean: Split, read: Callable[[str], Image], id: str) -> dict[str, float]:
    reference, image = clean.image(id), read(id)
    return {name: metric(image, reference) for name, metric in METRICS.items()}


class FolderReader:
    """Reads <folder>/<id>.png; a class, so that it can be sent to another process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, id: str) -> Image:
        return images.read_image(self.folder / f"{id}.png")


def main() -> None:
    """Command line."""
    options = runtime.arguments("clean", "degraded", "restored", "out")
    clean, degraded = (Dataset.open(Path(path)) for path in (options.clean, options.degraded))
    objectives = load_params().objectives
    with runtime.replacing_folder(Path(options.out)) as out:
        if not degraded.has_clean_images:
            print(
                f"{options.degraded}: real photos without clean counterparts, so that {', '.join(METRICS)} are left out"
            )
            return
        for split in degraded.evaluation_splits:
            folders = {DEGRADED: degraded.folder / split / "images"}
            folders |= {objective: Path(options.restored) / objective / split for objective in objectives}
            for variant, folder in folders.items():
                target = out / variant / split
                target.mkdir(parents=True)
                measure(clean.split(clean.evaluation_split), FolderReader(folder)).save(target / RECORDS_FILE)


if __name__ == "__main__":
    runtime.run_stage(main)
