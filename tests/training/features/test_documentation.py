"""The page that lists all features."""

from pathlib import Path

from training.features.documentation import MEASURED, document, measured_part


def test_the_page_of_features_is_up_to_date() -> None:
    """`make features` writes it."""
    page = Path(__file__).parents[3] / "docs" / "features.md"
    text = page.read_text(encoding="utf-8")
    assert text == document(measured_part(text))


def test_what_was_measured_stays_on_the_page() -> None:
    measured = f"{MEASURED}\n| user | 1 |\n"
    assert measured_part(document(measured)) == measured
    assert measured_part(document("")) == ""
