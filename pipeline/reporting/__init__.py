"""What the report is made of: tables, verdicts, pictures, pages of words."""
