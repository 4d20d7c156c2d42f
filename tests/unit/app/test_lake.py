"""Every format that may be set can be opened, and there is no other."""

from typing import get_args

from tidemill.app.lake import FORMATS
from tidemill.settings import LakeSettings


def test_the_formats_are_those_of_the_settings() -> None:
    assert FORMATS.keys() == set(get_args(LakeSettings.model_fields["format"].annotation))
