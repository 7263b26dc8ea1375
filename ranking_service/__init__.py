"""Stage two: candidates put in order by CatBoost, and why."""
