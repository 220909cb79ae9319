"""The data of the studies that these tests train."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data(tmp_path_factory, data_folder, course) -> Path:
    """The files of RTE and of the course's tasks in one folder."""
    folder = tmp_path_factory.mktemp("all-data")
    for source in (data_folder, course):
        shutil.copytree(source, folder, dirs_exist_ok=True)
    return folder
