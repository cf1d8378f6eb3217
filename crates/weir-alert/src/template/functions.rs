//! Functions of notification templates, beside those that all of weir's templates have.

use jiff::tz::TimeZone;
use weir_go::template::{Call, Functions, Object, Value};
use weir_model::Timestamp;

use super::time::{Time, go_layout, parse_layout};

fn zoned(value: &Value) -> Result<jiff::Zoned, String> {
    let Value::Object(o) = value else { return Err("wants a time".to_owned()) };
    let seconds = match o.member("Unix", &[]) {
        Some(Ok(Value::Int(s))) => s,
        _ => return Err("wants a time".to_owned()),
    };
    jiff::Timestamp::from_second(seconds).map(|t| t.to_zoned(TimeZone::UTC)).map_err(|e| e.to_string())
}

pub(super) fn functions() -> Functions {
    let mut f = Functions::builtin().with_common();
    f.register("join", |_, args| match args {
        [separator, list] => {
            let Value::List(items) = list.plain() else { return Err("wants a list".to_owned()) };
            let items: Vec<String> = items.iter().map(Value::text).collect();
            Ok(items.join(&separator.text()).into())
        }
        _ => Err("wants a separator and a list".to_owned()),
    });
    let text = |f: fn(&str) -> Result<String, String>| {
        move |args: &[Value]| match args {
            [one] => f(&one.text()).map(Value::from),
            _ => Err(format!("wrong number of args: want 1 got {}", args.len())),
        }
    };
    let pairs: [(&'static str, fn(&str) -> Result<String, String>); 4] = [
        ("trimSpace", |s| Ok(s.trim().to_owned())),
        ("urlUnescape", |s| {
            let plus = s.replace('+', " ");
            Ok(url::form_urlencoded::parse(format!("x={}", plus.replace('&', "%26").replace('=', "%3D")).as_bytes())
                .next()
                .map(|(_, v)| v.into_owned())
                .unwrap_or_default())
        }),
        ("base64encode", |s| Ok(crate::base64::encode(s.as_bytes()))),
        ("base64decode", |s| {
            crate::base64::decode(s).and_then(|b| String::from_utf8(b).ok()).ok_or_else(|| "not base64 text".to_owned())
        }),
    ];
    for (name, function) in pairs {
        let function = text(function);
        f.register(name, move |_, args| function(args));
    }
    f.register("stringSlice", |_, args| Ok(Value::list(args.iter().cloned())));
    f.register("list", |_, args| Ok(Value::list(args.iter().cloned())));
    f.register("append", |_, args| match args.split_first() {
        Some((Value::List(items), more)) => Ok(Value::list(items.iter().chain(more).cloned())),
        _ => Err("wants a list and items".to_owned()),
    });
    f.register("dict", |_, args| {
        if args.len() % 2 == 1 {
            return Err("wants names and values in pairs".to_owned());
        }
        Ok(Value::map(args.chunks_exact(2).map(|p| (p[0].text(), p[1].clone()))))
    });
    f.register("toJson", |_, args| match args {
        [one] => Ok(json(one, 0)?.to_string().into()),
        _ => Err("wants one value".to_owned()),
    });
    f.register("date", |_, args| match args {
        [layout, time] => Ok(go_layout(&zoned(time)?, &layout.text()).into()),
        _ => Err("wants a layout and a time".to_owned()),
    });
    f.register("tz", |_, args| match args {
        [name, time] => {
            let zone = TimeZone::get(&name.text()).map_err(|e| e.to_string())?;
            Ok(Value::object(Time(zoned(time)?.with_time_zone(zone))))
        }
        _ => Err("wants a zone and a time".to_owned()),
    });
    time_functions(&mut f);
    for (name, kind) in [("safeHtml", "template.HTML"), ("safeUrl", "template.URL")] {
        f.register(name, move |_, args| match args {
            [one] => Ok(Value::object(Trusted { kind, text: one.text() })),
            _ => Err("wants one text".to_owned()),
        });
    }
    f
}

/// Text that HTML takes as it is where its kind belongs.
struct Trusted {
    kind: &'static str,
    text: String,
}

impl Object for Trusted {
    fn type_name(&self) -> &str {
        self.kind
    }
    fn member(&self, _: &str, _: &[Value]) -> Option<Result<Value, String>> {
        None
    }
    fn print(&self) -> Option<String> {
        Some(self.text.clone())
    }
}

fn time_functions(f: &mut Functions) {
    // The time comes with the rendering, so that a notification is the same at each attempt.
    let now = |call: &Call<'_>| {
        call.env.downcast_ref::<Timestamp>().copied().ok_or_else(|| "the time is not known here".to_owned())
    };
    f.register("now", move |call, _| Ok(Value::object(Time::at(now(call)?))));
    f.register("since", move |call, args| match args {
        // Seconds, as `humanizeDuration` wants them.
        [time] => {
            let then = Timestamp(zoned(time)?.timestamp().as_second() * 1000);
            Ok(Value::Float((now(call)?.0.div_euclid(1000) * 1000 - then.0) as f64 / 1000.0))
        }
        _ => Err("wants a time".to_owned()),
    });
    for name in ["toDate", "mustToDate"] {
        f.register(name, move |_, args| match args {
            [layout, text] => match parse_layout(&layout.text(), &text.text()) {
                Ok(time) => Ok(Value::object(Time(time))),
                Err(e) if name == "mustToDate" => Err(e),
                // Sprig's `toDate` gives the zero time.
                Err(_) => Ok(Value::object(Time::at(Timestamp(-62_135_596_800_000)))),
            },
            _ => Err("wants a layout and a text".to_owned()),
        });
    }
}

fn json(value: &Value, depth: usize) -> Result<serde_json::Value, String> {
    if depth > 32 {
        return Err("nested too deeply".to_owned());
    }
    Ok(match value.plain() {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(b) => b.into(),
        Value::Int(i) => i.into(),
        Value::Float(f) => f.into(),
        Value::Str(s) => (*s).into(),
        Value::List(items) => items.iter().map(|v| json(v, depth + 1)).collect::<Result<Vec<_>, _>>()?.into(),
        Value::Map(map) => {
            let pairs = map.iter().map(|(k, v)| Ok((k.to_string(), json(v, depth + 1)?)));
            serde_json::Value::Object(pairs.collect::<Result<_, String>>()?)
        }
        Value::Object(o) => Value::Object(o).text().into(),
    })
}
