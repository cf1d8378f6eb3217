use std::any::Any;

use proptest::prelude::*;

use super::*;

fn data() -> Value {
    let strings = |items: &[&str]| Value::list(items.iter().map(|s| Value::from(*s)));
    let object = |v: &str| Value::map([("k", Value::from(v))]);
    Value::map([
        ("name", Value::from("anna")),
        ("m", Value::map([("a", Value::from("1")), ("b", Value::from("2"))])),
        ("list", strings(&["a", "b", "c"])),
        ("n", Value::Int(42)),
        ("f", Value::Float(3.25125)),
        ("t", Value::Bool(true)),
        ("big", Value::Float(1.5e22)),
        ("small", Value::Float(1.5e-7)),
        ("empty", Value::from("")),
        ("zero", Value::Int(0)),
        ("none", strings(&[])),
        ("objs", Value::list([object("v1"), object("v2")])),
    ])
}

fn run(text: &str) -> Result<String, TemplateError> {
    let templates = Templates::new(Functions::builtin());
    templates.render(&templates.parse("t", text)?, &data())
}

/// Template, what Go prints (null: it fails) and its error; made by testdata/gen/template.go.
#[test]
fn templates_print_what_go_prints() {
    let cases: Vec<(String, Option<String>, String)> =
        serde_json::from_str(include_str!("../../testdata/template.json")).unwrap();
    assert!(cases.len() > 150);
    let mut wrong = Vec::new();
    for (text, want, go_error) in cases {
        let got = run(&text);
        // Printing the whole data or its address is the one thing that differs by design.
        if text.starts_with("{{$}}") {
            assert!(got.is_ok());
        } else if got.as_ref().ok() != want.as_ref() {
            wrong.push(format!("{text:?}: {got:?}, Go says {want:?} {go_error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn errors_name_template_and_line() {
    let check = |text: &str, want: &str| assert_eq!(run(text).unwrap_err().to_string(), want, "{text:?}");
    check("a\n{{.name\n", "template: t:3: unclosed action");
    check("a\n\n{{nofunc}}", "template: t:3: function \"nofunc\" not defined");
    check("\n{{if .name}}\n", "template: t:3: unclosed {{if}}: unexpected end of text");
    check("x\n{{ index .list 9 }}", "template: t:2: error calling index: index out of range: 9");
    check(
        "{{define \"a\"}}\n{{.x.y}}{{end}}\n\n{{template \"a\" 3}}",
        "template: t:2: can't evaluate field x in type int",
    );
    check("{{template \"gone\"}}", "template: t:1: template \"gone\" not defined");
}

struct Person;
impl Object for Person {
    fn type_name(&self) -> &str {
        "Person"
    }
    fn member(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        match name {
            "Name" => Some(Ok("ann".into())),
            "Greet" => Some(match args {
                [Value::Str(word)] => Ok(format!("{word} ann").into()),
                _ => Err("want a word".to_owned()),
            }),
            _ => None,
        }
    }
}

#[test]
fn objects_have_fields_and_methods_and_functions_see_their_environment() {
    let mut functions = Functions::builtin();
    functions.register("env", |call, _| Ok(call.env.downcast_ref::<String>().cloned().unwrap_or_default().into()));
    functions.register("tmpl", |call, args| call.render(&args[0].text(), &args[1]).map(Value::from));
    let mut templates = Templates::new(functions);
    templates.add("file", "{{define \"hi\"}}hi {{.Name}}{{end}}").unwrap();
    let render = |text: &str| {
        let template = templates.parse("t", text).map_err(|e| e.to_string())?;
        let env: Box<dyn Any> = Box::new("here".to_owned());
        templates.render_with(&template, &Value::object(Person), &*env).map_err(|e| e.to_string())
    };
    assert_eq!(render("{{.Name}} {{.Greet \"yo\"}} {{\"ho\" | .Greet}} {{env}}").unwrap(), "ann yo ann ho ann here");
    assert_eq!(render("{{template \"hi\" .}} {{tmpl \"hi\" .}}").unwrap(), "hi ann hi ann");
    assert_eq!(render("{{.Age}}").unwrap_err(), "template: t:1: can't evaluate field Age in type Person");
    assert_eq!(render("{{.Greet}}").unwrap_err(), "template: t:1: error calling Greet: want a word");
}

#[test]
fn later_definitions_replace_earlier_ones_and_blank_files_do_not() {
    let mut templates = Templates::new(Functions::builtin());
    templates.add("a", "{{define \"x\"}}old{{end}}").unwrap();
    templates.add("b", "{{define \"x\"}}new{{end}}\n").unwrap();
    let t = templates.parse("t", "{{template \"x\"}}").unwrap();
    assert_eq!(templates.render(&t, &Value::Nil).unwrap(), "new");
    assert_eq!(templates.names().collect::<Vec<_>>(), ["x"]);
}

#[test]
fn loops_recursion_and_output_are_bounded() {
    for text in [
        "{{range 9000000}}{{range 9000000}}{{end}}{{end}}",
        "{{define \"r\"}}{{template \"r\" .}}{{end}}{{template \"r\" .}}",
        "{{range 100000}}0123456789abcdef{{end}}",
        &format!("{}1{}", "{{if 1}}".repeat(500), "{{end}}".repeat(500)),
        &format!("{{{{{}1{}}}}}", "(".repeat(500), ")".repeat(500)),
        "{{printf \"%99999999d\" 1}}",
    ] {
        assert!(run(text).is_err(), "{}", &text[..40]);
    }
}

proptest! {
    #[test]
    fn never_panics(parts in proptest::collection::vec(prop_oneof![
        Just("{{"), Just("}}"), Just("{{-"), Just("-}}"), Just(" "), Just("if "), Just("range "), Just("end"), Just("else"),
        Just(".list"), Just("$x"), Just(":="), Just("="), Just(","), Just("|"), Just("("), Just(")"), Just("\""), Just("`"),
        Just("printf "), Just("\"%d%s%*v\""), Just("index "), Just("slice "), Just("1"), Just("-7"), Just("'a'"), Just("1e9"),
        Just("/*"), Just("*/"), Just("é"), Just("\\x"), Just("define "), Just("template "), Just("with "), Just("break"), Just("."),
    ], 0..14)) {
        let _ = run(&parts.concat());
    }
    #[test]
    fn text_without_braces_is_itself(text in "[^{]{0,40}") {
        prop_assert_eq!(run(&text).unwrap(), text);
    }
}
