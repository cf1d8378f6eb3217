//! `/link/{token}`: the incident of a page, read-only, for whoever holds the link that the page came with, and a button
//! that acknowledges it. The one page that is written here and not by the script: it must open on a telephone at night,
//! before any login, and programs that look at links in messages must not acknowledge by looking.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use weir_alert::{Link, LinkError, Page};
use weir_diagnose::{Incident, narrative};
use weir_go::template::escape_html;

use crate::App;
use crate::escalations::acknowledge_page;
use crate::incidents::Acknowledge;

/// Alerts and lines that are shown.
const SHOWN_MAX: usize = 20;

pub fn router() -> Router<Arc<App>> {
    Router::new().route("/link/{token}", get(show).post(acknowledge))
}

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (header::CACHE_CONTROL, "no-store"),
    // The path is a key: it goes nowhere else.
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
];

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:0 auto;padding:1rem;color-scheme:light dark}\
h1{font-size:1.3rem;line-height:1.3}ul{padding-left:1.2rem}li{overflow-wrap:anywhere}\
.s{display:inline-block;padding:.1rem .5rem;border-radius:.3rem;border:1px solid}\
button{font:inherit;font-weight:600;width:100%;padding:.9rem;border:0;border-radius:.5rem;background:#1864ab;color:#fff}\
input{font:inherit;width:100%;padding:.6rem;box-sizing:border-box;margin:.3rem 0 .8rem}";

fn answer(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{}</title>\
         <style>{STYLE}</style></head><body>{body}</body></html>",
        escape_html(title)
    );
    (status, HEADERS, html).into_response()
}

fn refused(error: LinkError) -> Response {
    let status = match error {
        LinkError::Invalid => StatusCode::NOT_FOUND,
        LinkError::Expired => StatusCode::GONE,
    };
    answer(status, "weir", &format!("<h1>{}</h1>", escape_html(&error.to_string())))
}

#[allow(clippy::result_large_err, reason = "an answer is built once per wrong request")]
fn find(app: &App, token: &str) -> Result<(Link, Page), Response> {
    let link = app.oncall.read_link(token).map_err(refused)?;
    match app.oncall.page(&link.tenant, &link.page) {
        Some(page) => Ok((link, page)),
        None => Err(answer(StatusCode::NOT_FOUND, "weir", "<h1>this page is long over</h1>")),
    }
}

async fn show(State(app): State<Arc<App>>, Path(token): Path<String>) -> Response {
    let (link, page) = match find(&app, &token) {
        Ok(found) => found,
        Err(response) => return response,
    };
    let fingerprints = page.members.iter().map(|l| format!("{:016x}", l.fingerprint()));
    let incident = fingerprints.filter_map(|f| app.incidents.get(&link.tenant, &f)).next();
    let title = incident.as_ref().map_or_else(|| page.title.clone(), narrative::title);
    answer(StatusCode::OK, &title, &document(&app, &link, &page, incident.as_ref(), &title))
}

fn document(app: &App, link: &Link, page: &Page, incident: Option<&Incident>, title: &str) -> String {
    let mut out = String::new();
    let tier = page.tier.as_deref().map(|t| format!("{} · ", escape_html(t))).unwrap_or_default();
    let _ = write!(out, "<p>{tier}<span class=\"s\">{}</span></p><h1>{}</h1>", page.state.as_str(), escape_html(title));
    let since = page.started_at.rfc3339();
    let _ = write!(
        out,
        "<p>Page of {}, step {} of chain {}.</p>",
        escape_html(&since),
        page.step.map_or(0, |s| s + 1),
        escape_html(&page.chain)
    );
    if let Some(ack) = &page.acknowledged {
        let _ =
            write!(out, "<p><b>{} is on it</b> since {}.</p>", escape_html(&ack.by), escape_html(&ack.at.rfc3339()));
    } else if page.state.is_open() {
        let person = app.oncall.config().person(&link.person).map(|p| p.shown.clone()).unwrap_or_default();
        let _ = write!(
            out,
            "<form method=\"post\"><label>Who is on it?<input name=\"by\" required maxlength=\"100\" value=\"{}\"></label>\
             <button>Acknowledge</button></form>",
            escape_html(&person)
        );
    }
    if let Some(incident) = incident {
        let _ = write!(out, "<h2>Cause</h2><p>{}</p>", escape_html(&narrative::sentence(incident)));
        list(&mut out, narrative::lines(incident));
        list(&mut out, narrative::impact(incident));
    }
    let _ = write!(out, "<h2>Alerts</h2><ul>");
    let known = app.alerts.alerts(&link.tenant, &[]);
    for labels in page.members.iter().take(SHOWN_MAX) {
        let alert = known.iter().find(|a| a.alert.labels == *labels);
        let annotation = |name: &str| alert.and_then(|a| a.alert.annotations.get(name)).unwrap_or_default();
        let state = if alert.is_some() { "firing" } else { "resolved" };
        let _ = write!(
            out,
            "<li><b>{}</b> {state}<br><code>{}</code>",
            escape_html(labels.value("alertname")),
            escape_html(&labels.to_string())
        );
        for name in ["summary", "description"] {
            if !annotation(name).is_empty() {
                let _ = write!(out, "<br>{}", escape_html(annotation(name)));
            }
        }
        let runbook = annotation("runbook_url");
        if runbook.starts_with("https://") || runbook.starts_with("http://") {
            let _ = write!(out, "<br><a href=\"{0}\" rel=\"noreferrer\">{0}</a>", escape_html(runbook));
        }
        out.push_str("</li>");
    }
    out.push_str("</ul>");
    if page.members.len() > SHOWN_MAX {
        let _ = write!(out, "<p>and {} more</p>", page.members.len() - SHOWN_MAX);
    }
    let id = incident.map_or_else(|| String::from("oncall"), |i| format!("incidents/{}", i.id));
    let _ = write!(
        out,
        "<p><a href=\"{}/{}?tenant={}\">Open in weir</a>, where you may have to sign in. This link ends at {}.</p>",
        escape_html(&app.external_url),
        escape_html(&id),
        escape_html(link.tenant.as_str()),
        escape_html(&link.until.rfc3339())
    );
    out
}

fn list(out: &mut String, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    out.push_str("<ul>");
    for line in lines.iter().take(SHOWN_MAX) {
        let _ = write!(out, "<li>{}</li>", escape_html(line));
    }
    out.push_str("</ul>");
}

#[derive(Deserialize)]
struct By {
    by: String,
}

async fn acknowledge(State(app): State<Arc<App>>, Path(token): Path<String>, Form(By { by }): Form<By>) -> Response {
    let (link, page) = match find(&app, &token) {
        Ok(found) => found,
        Err(response) => return response,
    };
    let ack = Acknowledge { by, comment: "by the link in the page".to_owned() };
    let done = match ack.check() {
        Ok(ack) if page.state.is_open() => acknowledge_page(&app, &link.tenant, page, ack).await.map(drop),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    match done {
        // To itself, so that loading it again does not ask to send the form again.
        Ok(()) => Redirect::to(&token).into_response(),
        Err(error) => answer(error.0, "weir", &format!("<h1>{}</h1>", escape_html(&error.1))),
    }
}
