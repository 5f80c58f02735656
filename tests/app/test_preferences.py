"""Of preferences: kept whole, and when they can not be read the window opens with the defaults and says so."""

import pytest
from attnscope.preferences import MAX_RECENT, Preferences, default_path, load_preferences, save_preferences, with_recent
from attnscope.state import Settings


def test_that_preferences_come_back(tmp_path):
    path = tmp_path / "config" / "preferences.json"
    kept = Preferences(
        theme="dark", device="cpu", recent=("a", "b"), tour_done=True, geometry="AAAA", settings=Settings(page="memory")
    )
    assert save_preferences(path, kept) == ""
    assert load_preferences(path) == (kept, "")


def test_that_a_first_start_has_the_defaults_and_nothing_to_say(tmp_path):
    assert load_preferences(tmp_path / "none.json") == (Preferences(), "")


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"theme": "pink"}', b'{"no_such": 1}', b'{"version": 2}', b"\xff\xff", b"[" * 500_000]
)
def test_that_damaged_preferences_are_kept_aside_and_said(tmp_path, data):
    path = tmp_path / "preferences.json"
    path.write_bytes(data)
    preferences, said = load_preferences(path)
    assert preferences == Preferences()
    assert said.startswith("Preferences could not be read (preferences.json ")
    assert said.endswith("the defaults are used. The file is kept as preferences.json.damaged-1.")
    assert (tmp_path / "preferences.json.damaged-1").read_bytes() == data
    assert not path.exists()


def test_that_what_is_no_file_is_said(tmp_path):
    preferences, said = load_preferences(tmp_path)
    assert preferences == Preferences()
    assert "is a directory" in said


def test_that_settings_of_another_release_are_made_possible(tmp_path):
    path = tmp_path / "preferences.json"
    save_preferences(path, Preferences(settings=Settings(checked=("no_such", "linear"), layer=-9)))
    preferences, _ = load_preferences(path)
    assert preferences.settings.checked == ("linear",)
    assert preferences.settings.layer == -1


def test_that_a_folder_that_can_not_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    said = save_preferences(tmp_path / "file" / "preferences.json", Preferences())
    assert said.startswith("Could not save preferences.json: ")


def test_that_recent_files_are_newest_first_once_and_ten():
    preferences = Preferences()
    for name in [str(number) for number in range(15)] + ["7"]:
        preferences = with_recent(preferences, name)
    assert preferences.recent[:2] == ("7", "14")
    assert len(preferences.recent) == MAX_RECENT
    assert len(set(preferences.recent)) == MAX_RECENT


def test_that_the_place_is_the_systems():
    assert default_path().name == "preferences.json"
