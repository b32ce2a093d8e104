//! Match rates as an SVG heat map: one cell per layer and head, specialists framed.

use std::fmt::Write;

use super::report::{Report, SPECIALIST};

const CELL: usize = 26;
const LEFT: usize = 64;
const TOP: usize = 64;

/// Draws the heat map.
pub fn heat_map(report: &Report, title: &str) -> String {
    let (layers, heads) = (report.n_layers, report.n_heads);
    let width = (LEFT + heads * CELL + 24).max(440);
    let height = TOP + layers * CELL + 56;
    let most = report.ipmr.matrix.iter().flatten().copied().fold(SPECIALIST, f64::max);
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">"
    ));
    line(format!("<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>"));
    line(format!("<text x=\"16\" y=\"22\" font-size=\"14\">{}</text>", escaped(title)));
    line(format!(
        "<text x=\"16\" y=\"40\">induction pointer match rate, 0 to {:.1} %; framed: specialists (at least {} %), {} of \
         {}</text>",
        100.0 * most,
        100.0 * SPECIALIST,
        report.ipmr.specialists,
        layers * heads
    ));
    for head in 0..heads {
        line(format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{head}</text>",
            LEFT + head * CELL + CELL / 2,
            TOP - 6
        ));
    }
    for (layer, row) in report.ipmr.matrix.iter().enumerate() {
        let y = TOP + layer * CELL;
        line(format!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">layer {layer}</text>", LEFT - 8, y + CELL / 2 + 4));
        for (head, &rate) in row.iter().enumerate() {
            let frame = if rate >= SPECIALIST { " stroke=\"#c0392b\" stroke-width=\"2\"" } else { "" };
            line(format!(
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"{frame}><title>layer {layer}, head \
                 {head}: {:.2} %</title></rect>",
                LEFT + head * CELL + 2,
                y + 2,
                CELL - 4,
                CELL - 4,
                colour(rate / most),
                100.0 * rate
            ));
        }
    }
    line(format!(
        "<text x=\"16\" y=\"{}\">heads from left to right; chance {:.2} %; head diversity {:.3}; margin {:.3}</text>",
        height - 20,
        100.0 * report.ipmr.chance,
        report.hdr.mean,
        report.m4.mean
    ));
    line("</svg>".to_owned());
    out
}

/// From near white to deep blue.
fn colour(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let channel = |from: f64, to: f64| (from + (to - from) * share).round() as u8;
    let mut text = String::from("#");
    for (from, to) in [(240.0, 8.0), (244.0, 48.0), (250.0, 107.0)] {
        // Writing to a string cannot fail.
        let _ = write!(text, "{:02x}", channel(from, to));
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
