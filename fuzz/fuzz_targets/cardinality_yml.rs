#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_ingest::cardinality::CardinalityConfig;
use weir_model::TenantId;

fuzz_target!(|text: &str| {
    if let Ok(config) = CardinalityConfig::parse(text) {
        let tenant = TenantId::anonymous();
        // Where a file says nothing the defaults hold.
        assert!(config.of_metric(&tenant, "up").is_some() && config.of_tenant(&tenant).is_some());
    }
});
