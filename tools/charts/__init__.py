"""The Helm charts of this project: rendered, and held to what Helm, their own tests and an API server say of them."""
