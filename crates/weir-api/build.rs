//! Makes sure that there is a page to embed, so that the workspace builds without Node.

use std::path::Path;
use std::{fs, io};

const PLACEHOLDER: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>weir: the page was not built</title>
<body style=\"font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em\">
<h1>This weir was built without its web page</h1>
<p>All APIs work. To have the page as well, run <code>make web</code> and build weir again;
<code>make demo</code> does both.</p>
</body>
</html>
";

fn main() -> io::Result<()> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/dist");
    let document = dist.join("index.html");
    if !document.exists() {
        fs::create_dir_all(&dist)?;
        fs::write(&document, PLACEHOLDER)?;
    }
    println!("cargo:rerun-if-changed={}", dist.display());
    Ok(())
}
