//! The picture beside the figures: bars, one panel for each figure, one row for each contestant.

use std::fmt::Write;

use crate::report::{JobReport, Report, Standing};
use crate::scenario::{Figure, Round};

/// A whole SVG file, light background, no fonts or scripts from elsewhere.
pub(crate) fn draw(report: &Report) -> String {
    let bottom = report.jobs.iter().fold(TOP, |y, job| y + job_height(job));
    let height = bottom + 64.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut svg,
        (LEFT, 38.0),
        "font-size=\"20\" font-weight=\"bold\" fill=\"#1f2933\"",
        report.title,
    );
    for panel in panels(report) {
        draw_panel(&mut svg, panel, report, bottom);
    }
    draw_names(&mut svg, report);
    for (line, y) in report
        .circumstances()
        .lines()
        .zip([bottom + 28.0, bottom + 46.0])
    {
        text(
            &mut svg,
            (LEFT, y),
            "font-size=\"11\" fill=\"#7b8794\"",
            line,
        );
    }
    svg + "</svg>\n"
}

fn panels(report: &Report) -> &'static [Panel] {
    match report.compared_by {
        Figure::Cpu => &BY_CPU,
        Figure::P99 => &BY_P99,
    }
}

struct Panel {
    title: &'static str,
    x: f64,
    figure: fn(&Round) -> f64,
    show: fn(f64) -> String,
}

fn draw_panel(svg: &mut String, panel: &Panel, report: &Report, bottom: f64) {
    let Panel {
        title, x, figure, ..
    } = panel;
    text(
        svg,
        (*x, TOP - 14.0),
        "font-size=\"12\" font-weight=\"bold\" fill=\"#3e4c59\"",
        title,
    );
    let (top, bottom) = (TOP, bottom - 4.0);
    put(
        svg,
        &format!("<path d=\"M{x} {top}V{bottom}\" stroke=\"#cbd2d9\"/>"),
    );
    let standings = report.jobs.iter().flat_map(|job| &job.contestants);
    let rounds = standings.flat_map(|standing| &standing.rounds);
    let largest = rounds.map(figure).fold(f64::MIN_POSITIVE, f64::max);
    for (standing, y) in placed(report) {
        draw_bar(svg, panel, standing, y, BAR_ROOM / largest);
    }
}

/// The median as a bar, and the lowest to the highest round as a line across its end.
fn draw_bar(svg: &mut String, panel: &Panel, standing: &Standing, y: f64, scale: f64) {
    let Panel {
        x, figure, show, ..
    } = panel;
    let (colour, line) = colours(standing.name);
    let median = figure(&standing.median);
    let width = median * scale;
    put(
        svg,
        &format!(
            "<rect x=\"{x}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
        ),
    );
    let ends = standing
        .rounds
        .iter()
        .map(|round| x + figure(round) * scale);
    let (low, high) = ends.fold((f64::INFINITY, 0.0_f64), |(low, high), end| {
        (low.min(end), high.max(end))
    });
    let middle = y + BAR / 2.0;
    put(
        svg,
        &format!(
            "<path d=\"M{low:.1} {middle:.1}H{high:.1}\" stroke=\"{line}\" stroke-width=\"2\"/>"
        ),
    );
    let at = (high.max(x + width) + 6.0, y + BAR - 5.0);
    text(svg, at, "font-size=\"12\" fill=\"#1f2933\"", &show(median));
}

fn draw_names(svg: &mut String, report: &Report) {
    let mut y = TOP;
    for job in &report.jobs {
        text(
            svg,
            (LEFT, y + 17.0),
            "font-size=\"13\" font-weight=\"bold\" fill=\"#3e4c59\"",
            job.title,
        );
        y += job_height(job);
    }
    for (standing, y) in placed(report) {
        let at = (panels(report)[0].x - 10.0, y + BAR - 5.0);
        text(
            svg,
            at,
            "font-size=\"12\" fill=\"#1f2933\" text-anchor=\"end\"",
            standing.name,
        );
    }
}

/// Every contestant of every job with the top of its bars.
fn placed(report: &Report) -> Vec<(&Standing, f64)> {
    let mut placed = Vec::new();
    let mut top = TOP;
    for job in &report.jobs {
        for (row, standing) in (0_u8..).zip(&job.contestants) {
            placed.push((standing, top + JOB_HEAD + f64::from(row) * ROW));
        }
        top += job_height(job);
    }
    placed
}

fn job_height(job: &JobReport) -> f64 {
    JOB_HEAD + job.contestants.len() as f64 * ROW + 8.0
}

/// Of the bar, and of the line on it.
fn colours(name: &str) -> (&'static str, &'static str) {
    match name.starts_with("edgeway") {
        true => ("#2f6fdb", "#173a78"),
        false => ("#9fb3c8", "#52606d"),
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), style: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    put(
        svg,
        &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>"),
    );
}

fn put(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a string takes any text");
}

fn thousands(value: f64) -> String {
    format!("{:.1} k", value / 1e3)
}

const BY_CPU: [Panel; 3] = [
    Panel {
        title: "CPU per request, µs (less is better)",
        x: 184.0,
        figure: |round| round.cpu_us_per_request,
        show: |value| format!("{value:.1}"),
    },
    Panel {
        title: "Requests per second (more is better)",
        x: 460.0,
        figure: |round| round.requests_per_second,
        show: thousands,
    },
    Panel {
        title: "p99 latency, ms (less is better)",
        x: 736.0,
        figure: |round| round.p99_us,
        show: |value| format!("{:.2}", value / 1e3),
    },
];
const BY_P99: [Panel; 3] = [
    Panel {
        title: "p99 latency, ms (less is better)",
        x: 212.0,
        figure: |round| round.p99_us,
        show: |value| format!("{:.1}", value / 1e3),
    },
    Panel {
        title: "p50 latency, ms (less is better)",
        x: 478.0,
        figure: |round| round.p50_us,
        show: |value| format!("{:.2}", value / 1e3),
    },
    Panel {
        title: "Slow answers, % (less is better)",
        x: 744.0,
        figure: |round| round.watched_percent.unwrap_or_default(),
        show: |value| format!("{value:.2}"),
    },
];
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 24.0;
const TOP: f64 = 90.0;
const JOB_HEAD: f64 = 26.0;
const ROW: f64 = 24.0;
const BAR: f64 = 18.0;
/// Leaves room for the figure behind the longest bar.
const BAR_ROOM: f64 = 190.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_become_markup() {
        let mut svg = String::new();
        text(&mut svg, (1.0, 2.0), "", "a < b & c");
        assert_eq!(svg, "<text x=\"1.0\" y=\"2.0\" >a &lt; b &amp; c</text>\n");
    }
}
