"""The published studies, each remade as published and corrected; one module a study."""
