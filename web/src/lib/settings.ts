// Copy-paste settings for what sends data, with the address that this page was reached by.

export interface Setting {
  id: string;
  title: string;
  note: string;
  text: string;
}

export function settings(base: string, tenant: string): Setting[] {
  const url = new URL(base);
  const origin = base.replace(/\/$/, "");
  const host = url.hostname;
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  const tls = url.protocol === "https:";
  const named = tenant !== "anonymous";
  const yamlHeader = (indent: string) => (named ? `\n${indent}headers:\n${indent}  X-Scope-OrgID: ${tenant}` : "");
  return [
    {
      id: "otel",
      title: "OpenTelemetry SDK",
      note: "Environment variables that every OpenTelemetry SDK reads: metrics, logs and traces by OTLP. The usual ports answer too: 4317 for gRPC, 4318 for HTTP.",
      text: [
        "export OTEL_SERVICE_NAME=my-service",
        "export OTEL_RESOURCE_ATTRIBUTES=service.version=1.0.0,service.namespace=my-namespace",
        "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        `export OTEL_EXPORTER_OTLP_ENDPOINT=${origin}`,
        ...(named ? [`export OTEL_EXPORTER_OTLP_HEADERS=X-Scope-OrgID=${tenant}`] : []),
      ].join("\n"),
    },
    {
      id: "prometheus",
      title: "Prometheus",
      note: "In prometheus.yml: everything Prometheus scrapes is sent on.",
      text: `remote_write:\n  - url: ${origin}/api/v1/write${yamlHeader("    ")}`,
    },
    {
      id: "alloy",
      title: "Grafana Alloy",
      note: "Metrics by remote write, logs by Loki push, traces by OTLP.",
      text: `prometheus.remote_write "weir" {
  endpoint {
    url = "${origin}/api/v1/write"${named ? `\n    headers = { "X-Scope-OrgID" = "${tenant}" }` : ""}
  }
}

loki.write "weir" {
  endpoint {
    url = "${origin}/loki/api/v1/push"${named ? `\n    tenant_id = "${tenant}"` : ""}
  }
}

otelcol.exporter.otlphttp "weir" {
  client {
    endpoint = "${origin}"${named ? `\n    headers = { "X-Scope-OrgID" = "${tenant}" }` : ""}
  }
}`,
    },
    {
      id: "fluentbit",
      title: "Fluent Bit",
      note: "In fluent-bit.conf: lines go to Loki's push endpoint.",
      text: [
        "[OUTPUT]",
        "    name        loki",
        "    match       *",
        `    host        ${host}`,
        `    port        ${port}`,
        "    uri         /loki/api/v1/push",
        "    labels      app=my-app, namespace=my-namespace",
        "    line_format json",
        ...(named ? [`    tenant_id   ${tenant}`] : []),
        ...(tls ? ["    tls         on"] : []),
      ].join("\n"),
    },
    {
      id: "curl",
      title: "curl",
      note: "One log line, to see that the way is open.",
      text: `curl -i ${origin}/loki/api/v1/push -H 'Content-Type: application/json' \\${named ? `\n  -H 'X-Scope-OrgID: ${tenant}' \\` : ""}
  -d '{"streams":[{"stream":{"service_name":"hello"},"values":[["'$(date +%s%N)'","level=info msg=hello"]]}]}'`,
    },
  ];
}
