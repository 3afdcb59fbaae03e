"""Other projects' CustomResourceDefinitions, made from their own packages: what an API server judges ours by."""
