//! Role `ingress`: each host and path, for probing.

use super::object::{Ingress, LabelMap, add_meta, namespace_label, set};

pub(super) fn group(ingress: &Ingress) -> (LabelMap, Vec<LabelMap>) {
    let mut labels = LabelMap::from([namespace_label(&ingress.metadata)]);
    if let Some(class) = &ingress.spec.ingress_class_name {
        set(&mut labels, "ingress_class_name", class.clone());
    }
    add_meta(&mut labels, "ingress", &ingress.metadata);
    let tls_hosts: Vec<&str> = ingress.spec.tls.iter().flat_map(|tls| &tls.hosts).map(String::as_str).collect();
    let mut targets = Vec::new();
    for rule in &ingress.spec.rules {
        let scheme = if tls_hosts.iter().any(|host| covers(host, &rule.host)) { "https" } else { "http" };
        let declared = rule.http.iter().flat_map(|http| &http.paths);
        let mut paths: Vec<&str> = declared.map(|p| if p.path.is_empty() { "/" } else { p.path.as_str() }).collect();
        if paths.is_empty() {
            paths.push("/");
        }
        for path in paths {
            let mut target = LabelMap::from([("__address__".to_owned(), rule.host.clone())]);
            set(&mut target, "ingress_scheme", scheme);
            set(&mut target, "ingress_host", rule.host.clone());
            set(&mut target, "ingress_path", path);
            targets.push(target);
        }
    }
    (labels, targets)
}

/// `*.example.org` covers one more part.
fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(first, domain)| !first.is_empty() && domain == rest),
        None => pattern == host,
    }
}
