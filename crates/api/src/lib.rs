//! The Kubernetes resources.
