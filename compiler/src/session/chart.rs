//! A line chart as SVG, as small as one can be: axes with round numbers, one line a series, names beside.

use std::fmt::Write;

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What the horizontal axis is.
    pub x: String,
    /// What the vertical axis is.
    pub y: String,
    /// The lines, in the order of their names beside the chart.
    pub lines: Vec<Line>,
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Points from left to right, all finite.
    pub points: Vec<(f64, f64)>,
}

/// Colours that people with any kind of colour vision can tell apart (Okabe and Ito); then they repeat, dashed.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];
const DASHES: [&str; 4] = ["none", "6 3", "2 2", "8 3 2 3"];

/// The plot's own rectangle in the picture.
const LEFT: f64 = 70.0;
const TOP: f64 = 20.0;
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;

/// An axis: the range of its values and where its round numbers are.
struct Axis {
    least: f64,
    most: f64,
    step: f64,
}

impl Axis {
    /// An axis for these values, with about `count` round numbers.
    fn over(values: impl Iterator<Item = f64>, count: f64) -> Axis {
        let (mut least, mut most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if least > most {
            (least, most) = (0.0, 1.0);
        }
        if least == most {
            (least, most) = (least - 0.5, most + 0.5);
        }
        let rough = (most - least) / count;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(10.0 * power);
        Axis { least: (least / step).floor() * step, most: (most / step).ceil() * step, step }
    }

    /// Where a value is, from 0 to 1.
    fn at(&self, value: f64) -> f64 {
        (value - self.least) / (self.most - self.least)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.most - self.least) / self.step).round() as usize;
        let (least, step) = (self.least, self.step);
        (0..=count).map(move |i| least + i as f64 * step)
    }

    fn label(&self, value: f64) -> String {
        let digits = (-self.step.log10().floor()).clamp(0.0, 9.0) as usize;
        format!("{value:.digits$}")
    }
}

impl Chart {
    /// The picture.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        let x = Axis::over(points().map(|p| p.0), 8.0);
        let y = Axis::over(points().map(|p| p.1), 6.0);
        let (at_x, at_y) = (|v: f64| LEFT + WIDTH * x.at(v), |v: f64| TOP + HEIGHT * (1.0 - y.at(v)));
        let height = (TOP + HEIGHT + 60.0).max(TOP + 18.0 * self.lines.len() as f64 + 20.0);
        let (right, bottom, total) = (LEFT + WIDTH, TOP + HEIGHT, LEFT + WIDTH + 330.0);
        let mut out = String::new();
        // Writing to a string cannot fail.
        let mut say = |line: String| {
            let _ = writeln!(out, "{line}");
        };
        say(format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{height}" font-family="sans-serif" font-size="12">"#
        ));
        say(format!(r#"<rect width="{total}" height="{height}" fill="white"/>"#));
        for tick in x.ticks() {
            let (at, label) = (at_x(tick), x.label(tick));
            say(format!(r##"<path d="M{at:.1} {TOP}V{bottom}" stroke="#ddd"/>"##));
            say(format!(r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#, bottom + 18.0));
        }
        for tick in y.ticks() {
            let (at, label) = (at_y(tick), y.label(tick));
            say(format!(r##"<path d="M{LEFT} {at:.1}H{right}" stroke="#ddd"/>"##));
            say(format!(r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#, LEFT - 8.0, at + 4.0));
        }
        say(format!(r#"<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="black"/>"#));
        let middle = LEFT + WIDTH / 2.0;
        say(format!(r#"<text x="{middle}" y="{}" text-anchor="middle">{}</text>"#, bottom + 42.0, escaped(&self.x)));
        let middle = TOP + HEIGHT / 2.0;
        say(format!(
            r#"<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{}</text>"#,
            escaped(&self.y)
        ));
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let dash = DASHES[index / COLOURS.len() % DASHES.len()];
            let stroke = format!(r#"fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dash}""#);
            let path: Vec<String> =
                line.points.iter().map(|(px, py)| format!("{:.1},{:.1}", at_x(*px), at_y(*py))).collect();
            say(format!(r#"<polyline points="{}" {stroke}/>"#, path.join(" ")));
            // A single point has no line; a mark shows it.
            if let (1, Some((px, py))) = (line.points.len(), line.points.first()) {
                say(format!(r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#, at_x(*px), at_y(*py)));
            }
            let at = TOP + 18.0 * index as f64 + 8.0;
            say(format!(r#"<path d="M{} {at}h24" {stroke}/>"#, right + 14.0));
            say(format!(r#"<text x="{}" y="{}">{}</text>"#, right + 44.0, at + 4.0, escaped(&line.name)));
        }
        say("</svg>".into());
        out
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // XML has no way to write these.
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_land_where_the_axes_say() {
        let line = Line { name: "a<b".into(), points: vec![(0.0, 1.0), (10.0, 3.0)] };
        let svg = Chart { x: "step".into(), y: "loss".into(), lines: vec![line] }.svg();
        assert!(svg.contains(r#"<polyline points="70.0,420.0 710.0,20.0""#), "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        assert!(svg.contains(">0.0<") || svg.contains(">0<"));
    }

    #[test]
    fn any_values_make_a_chart() {
        let chart = |points: &[(f64, f64)]| {
            let lines = vec![Line { name: String::new(), points: points.to_vec() }; 40];
            Chart { x: String::new(), y: String::new(), lines }.svg()
        };
        for points in [&[][..], &[(5.0, 2.5)], &[(1e9, 1e-9), (2e9, 1e9)]] {
            let svg = chart(points);
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
