//! Writes the page of the API's documentation: HTML from `openapi.json`, readable without a script.
//!
//! One section for each tag, one article for each call, each with an anchor; then the schemas that
//! calls refer to, and the error codes. Texts of the description know one mark: backquotes are
//! code.

use serde_json::{Map, Value};
use std::error::Error;
use std::fmt::Write as _;
use std::sync::LazyLock;

type Done = Result<(), Box<dyn Error>>;

/// The page. `{{assets}}` in it is filled in as in any other.
pub(crate) fn page(openapi: &str) -> Result<String, Box<dyn Error>> {
    let document: Value = serde_json::from_str(openapi)?;
    let mut page = Page {
        document: &document,
        out: String::new(),
    };
    page.begin()?;
    page.contents()?;
    page.out.push_str("<main id=\"calls\">\n");
    for tag in array(&document["tags"]) {
        page.tag(tag)?;
    }
    page.schemas()?;
    page.codes()?;
    page.out.push_str("</main>\n</body>\n</html>\n");
    Ok(page.out)
}

struct Page<'d> {
    document: &'d Value,
    out: String,
}

/// A call: its path, its method in capitals, and its description.
type Call<'d> = (&'d str, String, &'d Value);

impl<'d> Page<'d> {
    fn begin(&mut self) -> Done {
        let info = &self.document["info"];
        let title = escaped(text(&info["title"]));
        let version = escaped(text(&info["version"]));
        self.out
            .push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        self.out
            .push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        self.out
            .push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
        self.out
            .push_str("<link rel=\"stylesheet\" href=\"{{assets}}/docs.css\">\n");
        writeln!(self.out, "<title>{title} API</title>\n</head>\n<body>")?;
        self.out
            .push_str("<a class=\"skip\" href=\"#calls\">To the calls</a>\n<header>\n");
        writeln!(self.out, "<h1>{title} API <small>{version}</small></h1>")?;
        self.paragraphs(&info["summary"])?;
        self.paragraphs(&info["description"])?;
        self.out
            .push_str("<p>For programs: <a href=\"/openapi.json\">openapi.json</a>, ");
        self.out
            .push_str("<a href=\"/asyncapi.json\">asyncapi.json</a>, ");
        self.out
            .push_str("<a href=\"/llms.txt\">llms.txt</a>.</p>\n</header>\n");
        Ok(())
    }

    fn contents(&mut self) -> Done {
        self.out.push_str("<nav aria-label=\"Calls\">\n");
        for tag in array(&self.document["tags"]) {
            let name = text(&tag["name"]);
            writeln!(
                self.out,
                "<h2><a href=\"#tag-{name}\">{name}</a></h2>\n<ul>"
            )?;
            for (path, method, call) in self.calls_of(name) {
                let (id, path) = (text(&call["operationId"]), escaped(path));
                let summary = inline(text(&call["summary"]));
                let what = format!("<code>{method} {path}</code>");
                writeln!(self.out, "<li><a href=\"#{id}\">{what}</a> {summary}</li>")?;
            }
            self.out.push_str("</ul>\n");
        }
        self.out
            .push_str("<h2><a href=\"#schemas\">Schemas</a></h2>\n");
        self.out
            .push_str("<h2><a href=\"#codes\">Error codes</a></h2>\n</nav>\n");
        Ok(())
    }

    fn calls_of(&self, tag: &str) -> Vec<Call<'d>> {
        let paths = members(&self.document["paths"]).iter();
        let calls = paths.flat_map(|(path, methods)| {
            let methods = members(methods).iter();
            methods.map(move |(method, call)| (path.as_str(), method.to_uppercase(), call))
        });
        calls
            .filter(|(_, _, call)| call["tags"][0] == tag)
            .collect()
    }

    fn tag(&mut self, tag: &Value) -> Done {
        let name = text(&tag["name"]);
        let description = inline(text(&tag["description"]));
        writeln!(self.out, "<section aria-labelledby=\"tag-{name}\">")?;
        writeln!(
            self.out,
            "<h2 id=\"tag-{name}\">{name}</h2>\n<p>{description}</p>"
        )?;
        for call in self.calls_of(name) {
            self.call(&call)?;
        }
        self.out.push_str("</section>\n");
        Ok(())
    }

    fn call(&mut self, (path, method, call): &Call<'d>) -> Done {
        let (id, path) = (text(&call["operationId"]), escaped(path));
        let line = format!("<span class=\"method\">{method}</span> <code>{path}</code>");
        writeln!(
            self.out,
            "<article id=\"{id}\">\n<h3><a href=\"#{id}\">{line}</a></h3>"
        )?;
        self.paragraphs(&call["summary"])?;
        self.paragraphs(&call["description"])?;
        let security = array(&call["security"]);
        if !security.is_empty() {
            let is_open = security.iter().any(|it| members(it).is_empty());
            self.out.push_str(if is_open {
                "<p class=\"token\">With tokens in force: takes a token.</p>\n"
            } else {
                "<p class=\"token\">Needs the operator's token.</p>\n"
            });
        }
        self.parameters(call)?;
        if let Some(body) = call.get("requestBody") {
            writeln!(self.out, "<h4>Body</h4>")?;
            self.paragraphs(&body["description"])?;
            self.content(&body["content"])?;
        }
        self.responses(call)?;
        self.out.push_str("</article>\n");
        Ok(())
    }

    fn parameters(&mut self, call: &Value) -> Done {
        let parameters = array(&call["parameters"]);
        if parameters.is_empty() {
            return Ok(());
        }
        self.out.push_str("<h4>Parameters</h4>\n");
        self.table(&["Name", "In", "Is", "Meaning"])?;
        for parameter in parameters {
            let parameter = self.resolved(parameter);
            let name = escaped(text(&parameter["name"]));
            let place = text(&parameter["in"]);
            let needed = if parameter["required"] == true {
                " (needed)"
            } else {
                ""
            };
            let shape = shape(&parameter["schema"]);
            let meaning = inline(text(&parameter["description"]));
            let row = format!("<td>{place}{needed}</td><td>{shape}</td><td>{meaning}</td>");
            writeln!(
                self.out,
                "<tr><th scope=\"row\"><code>{name}</code></th>{row}</tr>"
            )?;
        }
        self.end_table();
        Ok(())
    }

    fn responses(&mut self, call: &Value) -> Done {
        self.out.push_str("<h4>Answers</h4>\n");
        let mut failures = String::new();
        for (status, response) in members(&call["responses"]) {
            let response = self.resolved(response);
            let description = inline(text(&response["description"]));
            let codes = &response["content"]["application/json"]["schema"]["properties"]["code"];
            let codes = array(&codes["enum"]);
            if codes.is_empty() {
                writeln!(self.out, "<p><b>{status}</b> {description}</p>")?;
                self.content(&response["content"])?;
                continue;
            }
            let link = |code: &Value| {
                let code = text(code);
                format!("<a href=\"#code-{code}\"><code>{code}</code></a>")
            };
            let codes: Vec<String> = codes.iter().map(link).collect();
            let codes = codes.join(" ");
            let row = format!("<td>{description}</td><td>{codes}</td>");
            writeln!(failures, "<tr><th scope=\"row\">{status}</th>{row}</tr>")?;
        }
        self.out.push_str("<details>\n<summary>Errors</summary>\n");
        self.table(&["Status", "Meaning", "Codes"])?;
        self.out.push_str(&failures);
        self.end_table();
        self.out.push_str("</details>\n");
        Ok(())
    }

    /// The schema of a body, and its examples.
    fn content(&mut self, content: &Value) -> Done {
        for (media, of) in members(content) {
            let shape = shape(&of["schema"]);
            writeln!(self.out, "<p><code>{media}</code>: {shape}</p>")?;
            for example in members(&of["examples"]).values() {
                let summary = inline(text(&example["summary"]));
                self.example(&summary, &example["value"])?;
            }
            if let Some(example) = of.get("example") {
                self.example("Example", example)?;
            }
        }
        Ok(())
    }

    fn example(&mut self, summary: &str, example: &Value) -> Done {
        let shown = match example {
            Value::String(text) => text.clone(),
            json => serde_json::to_string_pretty(json)?,
        };
        let shown = escaped(shown.trim_end());
        writeln!(self.out, "<figure><figcaption>{summary}</figcaption>")?;
        writeln!(
            self.out,
            "<pre tabindex=\"0\"><code>{shown}</code></pre></figure>"
        )?;
        Ok(())
    }

    fn schemas(&mut self) -> Done {
        self.out
            .push_str("<section aria-labelledby=\"schemas\">\n<h2 id=\"schemas\">Schemas</h2>\n");
        for (name, schema) in members(&self.document["components"]["schemas"]) {
            if name == "ErrorCode" {
                continue;
            }
            let id = format!("schema-{name}");
            writeln!(
                self.out,
                "<article id=\"{id}\">\n<h3><a href=\"#{id}\">{name}</a></h3>"
            )?;
            self.paragraphs(&schema["description"])?;
            if schema.get("properties").is_none() {
                writeln!(self.out, "<p>{}</p>", shape(schema))?;
            } else {
                if let Some(base) = schema.get("$ref") {
                    let base = reference(text(base));
                    writeln!(self.out, "<p>The members of {base}, and these:</p>")?;
                }
                self.members(schema)?;
            }
            self.out.push_str("</article>\n");
        }
        self.out.push_str("</section>\n");
        Ok(())
    }

    fn members(&mut self, schema: &Value) -> Done {
        self.table(&["Member", "Is", "Meaning"])?;
        for (name, member) in members(&schema["properties"]) {
            let is_needed = array(&schema["required"]).iter().any(|it| it == name);
            let needed = if is_needed { " (needed)" } else { "" };
            let (name, shape) = (escaped(name), shape(member));
            let meaning = inline(text(&member["description"]));
            let row = format!("<td>{shape}{needed}</td><td>{meaning}</td>");
            writeln!(
                self.out,
                "<tr><th scope=\"row\"><code>{name}</code></th>{row}</tr>"
            )?;
        }
        self.end_table();
        Ok(())
    }

    fn codes(&mut self) -> Done {
        self.out
            .push_str("<section aria-labelledby=\"codes\">\n<h2 id=\"codes\">Error codes</h2>\n");
        self.table(&["Code", "Meaning"])?;
        let codes = &self.document["components"]["schemas"]["ErrorCode"]["oneOf"];
        for code in array(codes) {
            let name = text(&code["const"]);
            let meaning = inline(text(&code["description"]));
            let head = format!("<th scope=\"row\"><code>{name}</code></th>");
            writeln!(
                self.out,
                "<tr id=\"code-{name}\">{head}<td>{meaning}</td></tr>"
            )?;
        }
        self.end_table();
        self.out.push_str("</section>\n");
        Ok(())
    }

    fn table(&mut self, columns: &[&str]) -> Done {
        self.out
            .push_str("<div class=\"table\" tabindex=\"0\"><table>\n<thead><tr>");
        for column in columns {
            write!(self.out, "<th scope=\"col\">{column}</th>")?;
        }
        self.out.push_str("</tr></thead>\n<tbody>\n");
        Ok(())
    }

    fn end_table(&mut self) {
        self.out.push_str("</tbody>\n</table></div>\n");
    }

    fn paragraphs(&mut self, description: &Value) -> Done {
        for paragraph in text(description).split("\n\n").filter(|it| !it.is_empty()) {
            writeln!(self.out, "<p>{}</p>", inline(paragraph))?;
        }
        Ok(())
    }

    fn resolved(&self, value: &'d Value) -> &'d Value {
        let target = value["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
        target
            .and_then(|it| self.document.pointer(it))
            .unwrap_or(value)
    }
}

/// What a value may be, in a few words.
fn shape(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        return reference(target);
    }
    if let Some(value) = schema.get("const") {
        return format!("<code>{}</code>", escaped(&value.to_string()));
    }
    let alternatives = |list: &[Value], show: fn(&Value) -> String| {
        list.iter().map(show).collect::<Vec<_>>().join(" or ")
    };
    let as_code = |value: &Value| format!("<code>{}</code>", escaped(&value.to_string()));
    for (keyword, show) in [
        ("enum", as_code as fn(&Value) -> String),
        ("oneOf", shape),
        ("anyOf", shape),
    ] {
        let list = array(&schema[keyword]);
        let says = |it: &Value| keyword == "enum" || it.get("required").is_none();
        if !list.is_empty() && list.iter().all(says) && schema.get("properties").is_none() {
            return alternatives(list, show);
        }
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect(),
        kind => vec![text(kind)],
    };
    let mut shown = match &*kinds.join(" or ") {
        "" => match (text(&schema["format"]), text(&schema["pattern"])) {
            ("date-time", _) => "RFC 3339".to_owned(),
            (_, "") => "any JSON".to_owned(),
            _ => "digits".to_owned(),
        },
        "array" => format!("array of {}", shape(&schema["items"])),
        kinds => kinds.to_owned(),
    };
    let bounds = [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "at least"),
        ("maxLength", "at most"),
        ("minItems", "at least"),
        ("maxItems", "at most"),
        ("default", "default"),
    ];
    for (keyword, word) in bounds {
        if let Some(bound) = schema.get(keyword) {
            let unit = match keyword {
                "minLength" | "maxLength" => " characters",
                "minItems" | "maxItems" => " elements",
                _ => "",
            };
            shown.extend([", ", word, " ", &*escaped(&bound.to_string()), unit]);
        }
    }
    shown
}

fn reference(target: &str) -> String {
    let name = target.rsplit('/').next().unwrap_or_default();
    let anchor = if name == "ErrorCode" {
        "codes".to_owned()
    } else {
        format!("schema-{name}")
    };
    format!("<a href=\"#{anchor}\">{name}</a>")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn members(value: &Value) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text with code between backquotes.
fn inline(text: &str) -> String {
    let mut shown = String::new();
    for (index, part) in text.split('`').enumerate() {
        let part = escaped(part);
        if index % 2 == 1 {
            shown.extend(["<code>", &*part, "</code>"]);
        } else {
            shown.push_str(&part);
        }
    }
    shown
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
