//! The `otlp` receiver. weir listens where its own flags say, for all of them.

use super::section::Section;

/// Checks the section. What it says of addresses and sizes has no effect: the program's flags do.
pub(super) fn otlp(section: Section<'_>) {
    match section.section("protocols") {
        None => section.error("`protocols` is missing: give grpc, http or both"),
        Some(protocols) => {
            let (grpc, http) = (protocols.section("grpc"), protocols.section("http"));
            if grpc.is_none() && http.is_none() {
                protocols.error("give grpc, http or both");
            }
            if let Some(grpc) = grpc {
                endpoint(&grpc, "--otlp-grpc-listen");
                grpc.without_effect(&["tls", "auth"], "TLS and authentication are those of --web.config.file");
                let keys = [
                    "transport",
                    "max_recv_msg_size_mib",
                    "max_concurrent_streams",
                    "read_buffer_size",
                    "write_buffer_size",
                    "keepalive",
                    "include_metadata",
                    "dialer",
                    "middlewares",
                ];
                grpc.without_effect(&keys, "weir has limits of its own");
                grpc.finish();
            }
            if let Some(http) = http {
                endpoint(&http, "--otlp-http-listen");
                http.without_effect(&["tls", "auth"], "TLS and authentication are those of --web.config.file");
                let keys = [
                    "transport",
                    "max_request_body_size",
                    "include_metadata",
                    "compression_algorithms",
                    "cors",
                    "response_headers",
                    "read_timeout",
                    "read_header_timeout",
                    "write_timeout",
                    "idle_timeout",
                    "keep_alives_enabled",
                    "middlewares",
                ];
                http.without_effect(&keys, "weir has limits of its own");
                for (key, path) in [
                    ("traces_url_path", "/v1/traces"),
                    ("metrics_url_path", "/v1/metrics"),
                    ("logs_url_path", "/v1/logs"),
                ] {
                    if let Some(field) = http.get(key)
                        && field.text().is_some_and(|text| text.trim_start_matches('/') != &path[1..])
                    {
                        field.error(format!("is not supported: weir answers {path}"));
                    }
                }
                http.finish();
            }
            protocols.finish();
        }
    }
    section.finish();
}

/// `0.0.0.0:4317` and `localhost:4317` are what weir's own default says, but for the interface.
fn endpoint(section: &Section<'_>, flag: &str) {
    let Some(field) = section.get("endpoint") else { return };
    let Some(text) = field.text() else { return };
    let Some((_, port)) = text.rsplit_once(':') else { return field.error(format!("`{text}` is no host:port")) };
    if port.parse::<u16>().is_err() {
        return field.error(format!("`{port}` is no port"));
    }
    field.warn(format!("has no effect: weir listens where {flag} says ({flag} {text} for this address)"));
}
