//! An OpenTelemetry Collector's configuration: checked, and run in place of a Collector.

use std::process::Command;

fn platform() -> String {
    format!("{}/../weir-collector/testdata/platform.yaml", env!("CARGO_MANIFEST_DIR"))
}

/// What `weir check collector` says of a file, and whether it is content.
fn check(file: &str) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_weir")).args(["check", "collector", file]).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_filter_in_no_pipeline_is_pointed_out_and_mistakes_have_their_lines() {
    let (good, said) = check(&platform());
    assert!(good, "{said}");
    assert!(said.contains("2 pipelines, 2 processors, 2 exporters"), "{said}");
    let unused = "platform.yaml: line 32: processors.filter/drop-high-cardinality: this processor is in no pipeline";
    assert!(said.contains(unused), "{said}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    let text = std::fs::read_to_string(platform()).unwrap();
    let text = text.replace("threshold_ms", "treshold_ms").replace("[tail_sampling, batch]", "[tail_samplin, batch]");
    std::fs::write(&file, text).unwrap();
    let (good, said) = check(file.to_str().unwrap());
    assert!(!good, "{said}");
    for want in [
        "bad.yaml: line 21: processors.tail_sampling.policies[1].latency.treshold_ms: unknown key `treshold_ms`",
        "bad.yaml: line 52: service.pipelines.traces.processors[0]: there is no processor `tail_samplin`",
    ] {
        assert!(said.contains(want), "{want}\n{said}");
    }
}
