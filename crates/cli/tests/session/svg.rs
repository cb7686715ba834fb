//! A terminal's text as SVG. Text stays text; the colours follow the reader's light or dark theme.

use std::fmt::Write as _;

const FONT: f64 = 14.0;
/// Advance of a character of a monospaced font, and height of a line.
const ADVANCE: f64 = FONT * 0.602;
const LINE: f64 = 20.0;
const MARGIN: f64 = 20.0;
/// Above the first line: the title bar.
const TOP: f64 = 44.0;

const STYLE: &str = "\
.window { fill: #ffffff; stroke: #d0d7de }
.text { fill: #1f2328; font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre }
.prompt { fill: #59636e }
.typed { font-weight: bold }
.head { fill: #59636e }
.good { fill: #1a7f37 }
.bad { fill: #d1242f }
.button { fill: #d0d7de }
@media (prefers-color-scheme: dark) {
.window { fill: #0d1117; stroke: #3d444d }
.text { fill: #f0f6fc }
.prompt, .head { fill: #9198a1 }
.good { fill: #3fb950 }
.bad { fill: #f85149 }
.button { fill: #3d444d }
}";

/// Draws a session: lines after `$ ` are typed, all others printed.
pub(crate) fn draw(session: &str) -> String {
    let lines: Vec<&str> = session.lines().collect();
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let width = (count(columns) * ADVANCE + 2.0 * MARGIN).ceil();
    let height = TOP + count(lines.len()) * LINE + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"A terminal session of edgewright\">\n<style>\n{STYLE}\n</style>\n"
    );
    let (inner_width, inner_height) = (width - 1.0, height - 1.0);
    writeln!(
        svg,
        "<rect class=\"window\" x=\"0.5\" y=\"0.5\" rx=\"8\" width=\"{inner_width}\" height=\"{inner_height}\"/>"
    )
    .unwrap();
    for x in [20, 40, 60] {
        writeln!(svg, "<circle class=\"button\" cx=\"{x}\" cy=\"20\" r=\"6\"/>").unwrap();
    }
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let y = TOP + count(number) * LINE + FONT;
        let text = marked(line);
        writeln!(svg, "<text class=\"text\" xml:space=\"preserve\" x=\"{MARGIN}\" y=\"{y}\">{text}</text>")
            .unwrap();
    }
    svg + "</svg>\n"
}

/// A line with its colours.
fn marked(line: &str) -> String {
    if let Some(typed) = line.strip_prefix("$ ") {
        return format!("{}{}", span("prompt", "$ "), span("typed", typed));
    }
    let is_head = line.chars().any(char::is_alphabetic) && !line.chars().any(char::is_lowercase);
    if is_head {
        return span("head", line);
    }
    let mut text = String::new();
    for word in line.split_inclusive(' ') {
        match word.trim_end() {
            "passed" | "reused" | "current" => text.push_str(&span("good", word)),
            "failed" => text.push_str(&span("bad", word)),
            _ => text.push_str(&escaped(word)),
        }
    }
    text
}

fn span(class: &str, text: &str) -> String {
    format!("<tspan class=\"{class}\">{}</tspan>", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[test]
fn lines_keep_their_text() {
    let drawn = draw("$ a <b> & c\nNODE  STATE\nx     passed");
    assert!(drawn.contains("<tspan class=\"typed\">a &lt;b&gt; &amp; c</tspan>"), "{drawn}");
    assert!(drawn.contains("<tspan class=\"head\">NODE  STATE</tspan>"), "{drawn}");
    assert!(drawn.contains(">x     <tspan class=\"good\">passed</tspan></text>"), "{drawn}");
}
