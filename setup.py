"""Package metadata; build settings and tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "codes/gradloom/version.py").read_text(), re.MULTILINE)

DEMO = ["scikit-learn>=1.3", "scikit-image>=0.22"]

setup(
    name="gradloom",
    version=VERSION[1] if VERSION else "0",
    description="A config-driven trainer of GANs and other generative networks",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"": "codes"},
    packages=find_packages("codes", include=["gradloom", "gradloom.*"]),
    package_data={"gradloom": ["py.typed"]},
    install_requires=[
        # With the lowest versions of all, the quickstart trains, resumes, is checked and profiled; muon needs torch 2.9
        "torch>=2.7",
        "torchvision>=0.22",
        "pyyaml>=6",
        "kornia>=0.8",
        "tensorboard>=2.15",
        "scipy>=1.11",
        "munch>=4",
        "pydantic>=2.9",
        "annotated-types>=0.6",
        "typing-extensions>=4.12",
        "numpy>=1.26",
        "torch-fidelity>=0.4",
        "torchmetrics>=1.4",
        "safetensors>=0.4.5",
        "rich>=13",
    ],
    extras_require={
        "demo": DEMO,
        "mup": ["mup>=1.0"],
        "test": [
            *DEMO,
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "jsonschema>=4.20",
            "mypy>=1.13",
            "ruff>=0.9",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["gradloom = gradloom.cli:console"]},
)
