//! What a request to the API server is about.

/// A request in the words of RBAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiRequest {
    pub verb: String,
    /// Empty for the core group.
    pub group: String,
    /// With its subresource, if there is one; for what is no resource the path.
    pub resource: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
}

impl ApiRequest {
    pub(super) fn parse(method: &str, path: &str, query: &str) -> Self {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (group, rest) = match segments.as_slice() {
            ["api", _version, rest @ ..] if !rest.is_empty() => ("", rest),
            ["apis", group, _version, rest @ ..] if !rest.is_empty() => (*group, rest),
            _ => return Self::no_resource(method, path),
        };
        let (namespace, rest) = match rest {
            // Namespaces are resources with subresources of their own.
            ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            _ => (None, rest),
        };
        let (resource, name) = match rest {
            [resource, name, sub, ..] => (format!("{resource}/{sub}"), Some(*name)),
            [resource, name] => ((*resource).to_owned(), Some(*name)),
            [resource] => ((*resource).to_owned(), None),
            [] => return Self::no_resource(method, path),
        };
        let watch = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
        let verb = match (method, name) {
            ("GET", _) if watch => "watch",
            ("GET" | "HEAD", None) => "list",
            ("GET" | "HEAD", Some(_)) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", None) => "deletecollection",
            ("DELETE", Some(_)) => "delete",
            _ => return Self::no_resource(method, path),
        };
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource,
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
        }
    }

    fn no_resource(method: &str, path: &str) -> Self {
        Self {
            verb: method.to_ascii_lowercase(),
            group: String::new(),
            resource: path.to_owned(),
            namespace: None,
            name: None,
        }
    }

    /// Whether it changes something that is stored. Reviews and requests for tokens are written, but only answered.
    pub(super) fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
            && !matches!(self.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io")
            && !self.resource.ends_with("/token")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test says what it expects by failing loudly")]

    use super::ApiRequest;

    #[test]
    fn paths_are_read_as_the_api_server_reads_them() {
        let cases = [
            ("GET", "/api/v1/namespaces", "", "list namespaces - -"),
            ("GET", "/api/v1/namespaces/a", "", "get namespaces - a"),
            ("PUT", "/api/v1/namespaces/a/finalize", "", "update namespaces/finalize - a"),
            ("GET", "/api/v1/namespaces/a/pods", "limit=5&watch=true", "watch pods a -"),
            ("PATCH", "/api/v1/namespaces/a/pods/b/status", "", "patch pods/status a b"),
            ("GET", "/apis/multinic.io/v1alpha1/multinicnodeconfigs", "", "list multinicnodeconfigs - -"),
            ("DELETE", "/apis/apps/v1/namespaces/a/deployments", "", "deletecollection deployments a -"),
            ("GET", "/apis/apps/v1", "", "get /apis/apps/v1 - -"),
            ("GET", "/readyz", "", "get /readyz - -"),
        ];
        for (method, path, query, expected) in cases {
            let it = ApiRequest::parse(method, path, query);
            let or_dash = |value: Option<String>| value.unwrap_or("-".to_owned());
            let read = format!("{} {} {} {}", it.verb, it.resource, or_dash(it.namespace), or_dash(it.name));
            assert_eq!(read, expected, "{method} {path}");
        }
    }

    #[test]
    fn questions_are_no_writes() {
        let review = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        assert!(!ApiRequest::parse("POST", review, "").is_write());
        let token = "/api/v1/namespaces/a/serviceaccounts/b/token";
        assert!(!ApiRequest::parse("POST", token, "").is_write());
        assert!(ApiRequest::parse("POST", "/api/v1/namespaces/a/serviceaccounts", "").is_write());
    }
}
