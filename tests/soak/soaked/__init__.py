"""A project with one service for each publish mode, whose tasks write down where they ran."""
