#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_collector::ottl::{Condition, Context, Paths, Scene, Statement, Subject};
use weir_model::Nanos;

// A context, then the text of a statement and of a condition; what can be read is run on a span or a log record.
fuzz_target!(|input: (u8, &str)| {
    let (kind, text) = input;
    let paths = match Context::ALL.get(usize::from(kind)) {
        Some(context) => Paths::Of(*context),
        None => Paths::Prefixed,
    };
    let (mut resource, mut scope) = Default::default();
    let (mut resource_url, mut scope_url) = (String::new(), String::new());
    let (mut span, mut record) = (Default::default(), Default::default());
    let mut run = |context: Context, run: &dyn Fn(&mut Scene<'_>)| {
        let subject = match context {
            Context::Span => Subject::Span(&mut span),
            Context::Log => Subject::Log(&mut record),
            _ => Subject::None,
        };
        run(&mut Scene {
            resource: &mut resource,
            resource_url: &mut resource_url,
            scope: &mut scope,
            scope_url: &mut scope_url,
            subject,
            now: Nanos(1),
            cache: Vec::new(),
        });
    };
    if let Ok(statement) = Statement::parse(text, paths) {
        run(statement.context, &|scene| drop(statement.apply(scene)));
    }
    if let Ok(condition) = Condition::parse(text, paths) {
        run(condition.context, &|scene| drop(condition.is_true(scene)));
    }
});
