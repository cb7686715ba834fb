//! Templates: `*.j2` files of `files` folders, rendered with minijinja.
//!
//! Strict (an undefined name is an error), bounded in work and in output, without access to other files. A
//! template sees `image` (the name), `site` (`name`, `id`, `labels`; none for variants without a site),
//! `slot` (its id, or none) and `vars`, but no secrets. The trailing newline is kept; nothing is escaped;
//! `true` and `false` print as in YAML, not as in Python.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use edgewright_model::format::{Diagnostic, Place, nearest};
use edgewright_model::names::VariantName;
use edgewright_model::spec::{SiteSpec, Value as VarValue, Vars};
use edgewright_model::tree::{ContentId, TreePath};
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

/// The suffix of templates; the rendered file has the name without it.
pub const SUFFIX: &str = ".j2";

/// The limit of work for one rendering, in instructions of the template engine: a loop over 10,000 items with
/// a few expressions each stays below it and takes well under a second.
pub const FUEL: u64 = 500_000;

/// The largest rendered file, in bytes: as large as the largest template.
pub const OUTPUT_LIMIT: usize = 1024 * 1024;

/// Maximum bytes that the templates of one folder render to for one variant.
pub const MAX_FOLDER_RENDERED_BYTES: u64 = 64 * 1024 * 1024;

/// Maximum bytes that all templates of a commit render to for all variants together.
pub const MAX_RENDERED_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Maximum bytes of rendered files of a commit that are kept: files that are equal count once.
pub const MAX_RENDERED_KEPT_BYTES: u64 = 256 * 1024 * 1024;

/// Maximum work for all renderings of a commit together, in the unit of [`FUEL`].
pub const MAX_TOTAL_FUEL: u64 = 500_000_000;

/// Most tokens between `{{` and `}}`, or `{%` and `%}`. The engine parses expressions recursively, and limits
/// the depth for brackets only: fifty thousand `not` would overflow the stack.
pub const TAG_LIMIT: usize = 1000;

/// Most `elif` in a template, for the same reason.
pub const ELIF_LIMIT: usize = 200;

/// Statements of other template engines that read other files.
const OTHER_FILES: [&str; 4] =
    ["statement include", "statement import", "statement extends", "statement from"];

/// The variables of one variant as templates see them.
#[derive(Debug, Clone)]
pub struct Scope(Value);

impl Scope {
    /// The variables that the templates of a variant see.
    pub fn new(variant: &VariantName, site: Option<&SiteSpec>, vars: &Vars) -> Self {
        let text = |text: &str| Value::from(text);
        let site = site.map(|site| {
            map([
                ("name", text(site.name.as_str())),
                ("id", text(site.id.as_str())),
                ("labels", map(site.labels.iter().map(|(key, value)| (key.as_str(), text(value.as_str()))))),
            ])
        });
        Self(map([
            ("image", text(variant.image.as_str())),
            ("site", site.unwrap_or(Value::from(()))),
            ("slot", variant.slot.as_ref().map_or(Value::from(()), |slot| text(slot.as_str()))),
            ("vars", map(vars.iter().map(|(name, value)| (name.as_str(), value_of(value))))),
        ]))
    }
}

fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::from(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>())
}

fn value_of(value: &VarValue) -> Value {
    match value {
        VarValue::Boolean(value) => Value::from(*value),
        VarValue::Integer(value) => Value::from(*value),
        VarValue::String(value) => Value::from(value.as_str()),
        VarValue::List(values) => values.iter().map(value_of).collect(),
        VarValue::Map(values) => map(values.iter().map(|(key, value)| (key.as_str(), value_of(value)))),
    }
}

/// Compiled templates of one tree, each compiled once.
#[derive(Debug, Default)]
pub struct Templates<'t> {
    compiled: HashMap<&'t ContentId, Result<Environment<'t>, Fault>>,
    spent: Spent,
    /// Equal files are one value.
    kept: HashSet<Arc<[u8]>>,
}

/// What all renderings took so far.
#[derive(Debug, Default)]
struct Spent {
    bytes: u64,
    kept: u64,
    fuel: u64,
}

impl Spent {
    /// The limit that is exceeded.
    fn fault(&self) -> Option<Fault> {
        let (value, limit, what) = if self.bytes > MAX_RENDERED_BYTES {
            (self.bytes, MAX_RENDERED_BYTES, "bytes")
        } else if self.kept > MAX_RENDERED_KEPT_BYTES {
            (self.kept, MAX_RENDERED_KEPT_BYTES, "different bytes")
        } else if self.fuel > MAX_TOTAL_FUEL {
            (self.fuel, MAX_TOTAL_FUEL, "instructions of work")
        } else {
            return None;
        };
        Some(Fault {
            place: None,
            message: format!(
                "cannot render the template: all templates of the commit take {value} {what} for all variants, at most {limit}"
            ),
            hint: Some("render small files only; plain files are kept once for all variants".to_owned()),
        })
    }
}

/// The only template of its environment, so that no template can reach another.
const NAME: &str = "template";

#[derive(Debug, Clone)]
struct Fault {
    place: Option<Place>,
    message: String,
    hint: Option<String>,
}

impl<'t> Templates<'t> {
    /// Renders the template with the bytes `id` of the tree for one variant. `path` is only used in messages.
    pub fn render(
        &mut self,
        path: &TreePath,
        id: &'t ContentId,
        bytes: &'t [u8],
        scope: &Scope,
    ) -> Result<Arc<[u8]>, Diagnostic> {
        let rendered = match (self.spent.fault(), self.compiled.entry(id).or_insert_with(|| compile(bytes))) {
            (Some(fault), _) => Err(fault),
            (None, Ok(environment)) => {
                render(environment, bytes, scope, &mut self.spent).and_then(|bytes| self.keep(bytes))
            }
            (None, Err(fault)) => Err(fault.clone()),
        };
        rendered.map_err(|fault| Diagnostic {
            file: Some(path.clone()),
            place: fault.place,
            message: fault.message,
            hint: fault.hint,
        })
    }

    /// The bytes of a rendered file, shared with equal ones.
    fn keep(&mut self, bytes: Vec<u8>) -> Result<Arc<[u8]>, Fault> {
        if let Some(known) = self.kept.get(&bytes[..]) {
            return Ok(Arc::clone(known));
        }
        self.spent.kept += bytes.len() as u64;
        if let Some(fault) = self.spent.fault() {
            return Err(fault);
        }
        let bytes: Arc<[u8]> = bytes.into();
        self.kept.insert(Arc::clone(&bytes));
        Ok(bytes)
    }
}

fn compile(bytes: &[u8]) -> Result<Environment<'_>, Fault> {
    let source = std::str::from_utf8(bytes).map_err(|_| Fault {
        place: None,
        message: "the template is not UTF-8".to_owned(),
        hint: Some(format!("remove the suffix `{SUFFIX}` to copy the file unchanged")),
    })?;
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.map_err(|error| fault(&error, source))?);
    shallow(source)?;
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "true" } else { "false" })?),
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.set_fuel(Some(FUEL));
    environment.set_debug(true);
    environment.add_template(NAME, source).map_err(|error| fault(&error, source))?;
    Ok(environment)
}

/// Rejects a template that the engine would recurse into too deeply. Syntax errors are left for the engine to
/// report.
fn shallow(source: &str) -> Result<(), Fault> {
    let too_long = |span: &minijinja::machinery::Span, message: String, hint: &str| Fault {
        place: Some(place_of(source, span.start_offset as usize..span.end_offset as usize)),
        message,
        hint: Some(hint.to_owned()),
    };
    let (mut words, mut elifs) = (0, 0);
    for (token, span) in tokenize(source, false, SyntaxConfig::default()).map_while(Result::ok) {
        match token {
            Token::VariableStart | Token::BlockStart | Token::TemplateData(_) => words = 0,
            Token::Ident("elif") => elifs += 1,
            _ => words += 1,
        }
        if words > TAG_LIMIT {
            let message = format!("the expression is too long: more than {TAG_LIMIT} tokens");
            return Err(too_long(
                &span,
                message,
                "declare a variable for a long list, or split the expression",
            ));
        }
        if elifs > ELIF_LIMIT {
            let message = format!("the template has more than {ELIF_LIMIT} `elif`");
            return Err(too_long(
                &span,
                message,
                "declare a variable of the type map, and look up the value in it",
            ));
        }
    }
    Ok(())
}

fn render(
    environment: &Environment<'_>,
    bytes: &[u8],
    scope: &Scope,
    spent: &mut Spent,
) -> Result<Vec<u8>, Fault> {
    let source = std::str::from_utf8(bytes).unwrap_or_default();
    let mut out = Bounded::default();
    let result = environment
        .get_template(NAME)
        .and_then(|template| template.render_captured_to(scope.0.clone(), &mut out))
        .map(|captured| captured.state().fuel_levels().map_or(FUEL, |(consumed, _)| consumed));
    // A rendering that fails may have used all of its own.
    spent.fuel += result.as_ref().map_or(FUEL, |consumed| *consumed);
    spent.bytes += out.bytes.len() as u64;
    if out.full {
        return Err(Fault {
            place: None,
            message: format!("the rendered file is larger than {OUTPUT_LIMIT} bytes"),
            hint: Some("split the template, or commit a plain file".to_owned()),
        });
    }
    result.map_err(|error| suggest(fault(&error, source), scope))?;
    Ok(out.bytes)
}

/// Adds the name of the variable that was probably meant.
fn suggest(mut fault: Fault, scope: &Scope) -> Fault {
    let unknown = fault.message.strip_prefix("`vars.").and_then(|rest| rest.split('`').next());
    let known = scope.0.get_attr("vars").ok().and_then(|vars| vars.try_iter().ok());
    if let (Some(unknown), Some(known)) = (unknown, known) {
        let known: Vec<String> = known.map(|name| name.to_string()).collect();
        let near = nearest(unknown, known.iter().map(String::as_str));
        fault.hint = near.map(|near| format!("did you mean `vars.{near}`?")).or(fault.hint);
    }
    fault
}

/// Takes up to [`OUTPUT_LIMIT`] bytes.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + chunk.len() > OUTPUT_LIMIT {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fault(error: &Error, source: &str) -> Fault {
    let range = error.range().filter(|range| source.get(range.clone()).is_some());
    let text = range.clone().map(|range| source[range].trim());
    let place = match (range, error.line()) {
        (Some(range), _) => Some(place_of(source, range)),
        (None, Some(line)) => {
            Some(Place { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1, length: 1 })
        }
        (None, None) => None,
    };
    let detail = error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
    let (message, hint) = match error.kind() {
        ErrorKind::UndefinedError => (
            text.map_or(detail, |text| format!("`{text}` is not defined")),
            "known are `image`, `site`, `slot` and `vars.NAME` for every variable that the image declares; \
             a variant without site or slot has none",
        ),
        ErrorKind::OutOfFuel => (
            format!("the template takes more than {FUEL} instructions to render"),
            "generate large files before the commit; templates are for values",
        ),
        ErrorKind::SyntaxError if OTHER_FILES.iter().any(|word| detail.ends_with(word)) => {
            (detail, "repeat the part, or declare it as a variable: templates cannot read other files")
        }
        ErrorKind::SyntaxError => (
            detail,
            "close each `{{ … }}` and `{% … %}`; write `{% raw %}…{% endraw %}` around text that looks like them",
        ),
        _ => (detail, "see https://docs.rs/minijinja/3/minijinja/syntax/ for the syntax of templates"),
    };
    Fault { place, message, hint: Some(hint.to_owned()) }
}

fn place_of(source: &str, range: std::ops::Range<usize>) -> Place {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let before = &source[..range.start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    // A message underlines one line only.
    let underlined = source[range].lines().next().unwrap_or_default();
    Place {
        line: small(before.matches('\n').count() + 1),
        column: small(before[line_start..].chars().count() + 1),
        length: small(underlined.chars().count().max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgewright_model::spec::FileRules;
    use proptest::prelude::*;

    fn render(template: &str) -> Result<String, Diagnostic> {
        let vars = Vars::from([
            ("ntp".parse().unwrap(), VarValue::String("10.1.0.1".to_owned())),
            ("list".parse().unwrap(), VarValue::List(vec![VarValue::Integer(1), VarValue::Boolean(true)])),
        ]);
        let site = SiteSpec {
            name: "plant-a".parse().unwrap(),
            id: "s-1".parse().unwrap(),
            labels: [("region".parse().unwrap(), "emea".parse().unwrap())].into(),
            vars: Vars::new(),
            files: FileRules::default(),
            images: BTreeMap::new(),
            slots: Vec::new(),
            file: "sites/plant-a/site.yaml".parse().unwrap(),
        };
        let scope = Scope::new(&"hmi/plant-a".parse().unwrap(), Some(&site), &vars);
        let id = ContentId::new("1");
        let path = "files/etc/x.j2".parse().unwrap();
        let bytes = Templates::default().render(&path, &id, template.as_bytes(), &scope)?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn templates_see_the_variables_of_their_variant() {
        for (template, want) in [
            (
                "{{ image }} {{ site.name }} {{ site.id }} {{ site.labels.region }}\n",
                "hmi plant-a s-1 emea\n",
            ),
            ("{{ vars.ntp }}{% if slot %}slot{% endif %}", "10.1.0.1"),
            ("{% for x in vars.list %}{{ x }},{% endfor %}\n\n", "1,true,\n\n"),
            ("<{{ '<&>' }}>", "<<&>>"),
            ("{{ vars.list | tojson }}", "[1, true]"),
            ("", ""),
        ] {
            assert_eq!(render(template).unwrap(), want, "{template}");
        }
    }

    #[test]
    fn faults_have_a_place() {
        let table = [
            ("a\n  {{ vars.nope }}\n", 2, "`vars.nope` is not defined"),
            ("{{ secrets.x }}", 1, "`secrets.x` is not defined"),
            ("{{ slot.id }}", 1, "`slot.id` is not defined"),
            ("\n{% if %}", 2, ""),
            ("{% include 'template' %}", 1, ""),
            (
                "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
                1,
                "more than",
            ),
        ];
        for (template, line, message) in table {
            let fault = render(template).unwrap_err();
            assert_eq!(fault.place.unwrap().line, line, "{template}: {fault:?}");
            assert!(fault.message.contains(message), "{template}: {fault:?}");
            assert!(fault.hint.is_some());
        }
        let place = render("a\n  {{ vars.nope }}\n").unwrap_err().place.unwrap();
        assert_eq!((place.column, place.length), (6, 9));
        let large = render("{% for i in range(9999) %}{{ 'x' * 1000 }}{% endfor %}").unwrap_err();
        assert!(large.message.contains("bytes"), "{large:?}");
        let other = render("{% include 'passwd' %}").unwrap_err();
        assert!(other.hint.is_some_and(|hint| hint.starts_with("repeat the part")));
    }

    #[test]
    fn equal_files_are_kept_once_and_different_ones_are_bounded() {
        let variant = |number: usize| -> VariantName { format!("image-{number}").parse().unwrap() };
        let scope = |number: usize| Scope::new(&variant(number), None, &Vars::new());
        let (path, id) = ("a.j2".parse().unwrap(), ContentId::new("a"));
        let plain = vec![b'x'; 1_000_000];
        let own = [&plain[..], b"{{ image }}"].concat();

        let mut templates = Templates::default();
        let first = templates.render(&path, &id, &plain, &scope(0)).unwrap();
        for number in 1..400 {
            let again = templates.render(&path, &id, &plain, &scope(number)).unwrap();
            assert!(Arc::ptr_eq(&first, &again));
        }
        assert_eq!((templates.spent.bytes, templates.spent.kept), (400_000_000, 1_000_000));
        assert!(templates.spent.fuel > 0);

        let mut templates = Templates::default();
        let fits = usize::try_from(MAX_RENDERED_KEPT_BYTES).unwrap() / own.len();
        let full = (0..).find_map(|number| {
            let fault = templates.render(&path, &id, &own, &scope(number)).err()?;
            Some((number, fault.message))
        });
        let (number, message) = full.unwrap();
        assert_eq!(number, fits);
        assert!(message.contains("different bytes for all variants, at most 268435456"), "{message}");
        // From here on nothing is rendered any more.
        let bytes = templates.spent.bytes;
        templates.render(&path, &id, &own, &scope(0)).unwrap_err();
        assert_eq!(templates.spent.bytes, bytes);

        let fault = |spent: Spent| spent.fault().map(|fault| fault.message).unwrap_or_default();
        assert_eq!(fault(Spent { bytes: MAX_RENDERED_BYTES, kept: 0, fuel: MAX_TOTAL_FUEL }), "");
        assert!(
            fault(Spent { bytes: MAX_RENDERED_BYTES + 1, ..Spent::default() }).contains("2147483649 bytes")
        );
        assert!(fault(Spent { fuel: MAX_TOTAL_FUEL + 1, ..Spent::default() }).contains("500000001 instr"));
    }

    #[test]
    fn bombs_are_refused() {
        let doubled = |times: usize| {
            let mut text = "{% set x = '0123456789' %}".to_owned();
            (0..times).for_each(|_| text.push_str("{% set x = x ~ x %}"));
            text + "{{ x }}"
        };
        let deep =
            |open: &str, close: &str, times: usize| format!("{}1{}", open.repeat(times), close.repeat(times));
        let bombs = [
            "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}".to_owned(),
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
            "{% macro m(n) %}{{ m(n ~ n) }}{% endmacro %}{{ m('xxxxxxxx') }}".to_owned(),
            "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}".to_owned(),
            "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
            "{{ range(999999999) | list }}".to_owned(),
            "{{ 'x' * 9999999999 }}".to_owned(),
            "{{ ('x' * 1000000) * 1000000 }}".to_owned(),
            "{{ [1] * 9999999999 }}".to_owned(),
            "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}".to_owned(),
            "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('x', 'xxxxxxxx') %}{% endfor %}{{ ns.x }}".to_owned(),
            "{{ 2 ** 999999999 }}".to_owned(),
            "{{ 'x' | indent(999999999999) }}".to_owned(),
            "{{ '%999999999d' | format(1) }}".to_owned(),
            "{{ ['x'] | batch(9999999999, 'y') }}".to_owned(),
            doubled(60),
            format!("{{{{ {} }}}}", deep("(", ")", 50_000)),
            format!("{{{{ {} }}}}", deep("[", "]", 50_000)),
            format!("{{{{ {} }}}}", deep("not ", "", 50_000)),
            format!("{{{{ {} }}}}", deep("-", "", 50_000)),
            format!("{{{{ {} }}}}", deep("", "+1", 100_000)),
            format!("{{{{ {} }}}}", deep("", "|int", 100_000)),
            format!("{{{{ {} }}}}", deep("", "[0]", 100_000)),
            format!("{{{{ x{} }}}}", ".a".repeat(100_000)),
            format!("{{{{ {} }}}}", deep("1 and ", "", 100_000)),
            format!("{{{{ {} }}}}", deep("not ", "", 990)),
            format!("{{{{ {} }}}}", deep("-", "", 990)),
            format!("{{{{ {} }}}}", deep("", "+1", 490)),
            format!("{{{{ {} }}}}", deep("", "|int", 490)),
            format!("{{{{ x{} }}}}", ".a".repeat(490)),
            format!("{{{{ {} }}}}", deep("1 if 1 else ", "", 200)),
            format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(80_000)),
            format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(199)),
            format!("{}{{{{ {} }}}}", "{% raw %}{{{% endraw %}", deep("not ", "", 50_000)),
            deep("{% if 1 %}", "{% endif %}", 20_000),
            deep("{% for i in [1] %}", "{% endfor %}", 20_000),
        ];
        for bomb in bombs {
            // Refused, or small after all.
            match render(&bomb) {
                Ok(text) => assert!(text.len() <= OUTPUT_LIMIT, "{}", &bomb[..60]),
                Err(fault) => assert!(fault.message.len() < 4096, "{}", &fault.message[..100]),
            }
        }
    }

    proptest! {
        #[test]
        fn templates_never_panic(parts in prop::collection::vec(prop::sample::select(vec![
            "{{", "}}", "{%", "%}", "{#", "#}", " vars", ".ntp", " for x in ", " if ", "endif ", "endfor ", "(", ")", "|",
            "'", "x", " 9 ", "\n", "ä", "~", "[", "]", "upper", "loop", " macro m() ", "endmacro ", "-", "**", "*", " set ", "=",
        ]), 0..24)) {
            let _ = render(&parts.concat());
        }
    }
}
