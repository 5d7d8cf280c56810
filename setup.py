"""Packaging of tfeffi: `pip install .` gives the package and its console scripts, no Bazel."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
TOOLS = ("train", "compress", "export", "benchmark", "report", "sweep", "experiment", "fetch_data")

needed, extras, _ = re.split("# extras|# development", (HERE / "requirements.in").read_text())


def requirements(text):
    """The packages of some lines of requirements.in."""
    lines = (line.split("#")[0].strip() for line in text.splitlines()[1:])
    return [line for line in lines if line]


setup(
    name="tfeffi",
    version="0.1.0",
    description="Keras 3 / TensorFlow: CNNs that are cheap to train and cheap to run on a phone",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=[*find_packages(include=["tfeffi", "tfeffi.*"]), "tfeffi.tools"],
    package_dir={"tfeffi.tools": "tools"},  # the folder tools/ holds the binaries, once
    package_data={"tfeffi.data": ["*.npz", "*.txt"], "tfeffi.study": ["*.html", "*.css", "*.js"]},
    install_requires=requirements(needed),
    extras_require={"test": ["hypothesis", "pytest"], "tfmot": requirements(extras)},
    entry_points={
        "console_scripts": [
            f"tfeffi-{tool.replace('_', '-')}=tfeffi.tools.{tool}:run" for tool in TOOLS
        ]
    },
)
