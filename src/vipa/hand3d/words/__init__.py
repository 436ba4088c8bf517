"""Questions, answers and texts of relations and motions."""
