//! Draws `chart.svg` from `results.tsv`, which a full run of `measure` writes.

use std::fmt::Write as _;
use std::fs;

/// A group of bars: a workload's case, how to say it, and what is drawn.
struct Group {
    title: &'static str,
    case: &'static str,
    bars: &'static [&'static str],
}

const fn group(title: &'static str, case: &'static str, bars: &'static [&'static str]) -> Group {
    Group { title, case, bars }
}

const EACH: &[&str] = &["minimio level", "minimio edge", "mio edge", "polling level"];
const ANY: &[&str] = &["minimio edge", "mio edge", "polling edge"];

const GROUPS: &[Group] = &[
    group("pipes: 1000, 1 active", "pipes, 1000, 1 active", EACH),
    group("pipes: 1000, 100 active", "pipes, 1000, 100 active", EACH),
    group("echo: 1 connection", "echo, 1 connections", EACH),
    group("echo: 512 connections", "echo, 512 connections", EACH),
    group("register, deregister", "register + deregister", ANY),
    group("1 active, 100 000 idle", "1 active among 100000 idle", EACH),
    group("wake across threads", "wake across threads", ANY),
    group("100 wakes, one poll", "100 wakes before one poll", ANY),
    group("accept and close", "accept, register, close", EACH),
];

const LEFT: f64 = 190.0;
/// The width of a ratio of 1.
const UNIT: f64 = 210.0;
/// Longer bars are cut.
const LONGEST: f64 = 2.6;
const BAR: f64 = 13.0;
const GAP: f64 = 14.0;
const TOP: f64 = 74.0;

fn color(contestant: &str) -> &'static str {
    match contestant.split(' ').next() {
        Some("minimio") => "#1b7f5c",
        Some("mio") => "#8a8f98",
        _ => "#c9a86a",
    }
}

fn main() {
    let package = env!("CARGO_MANIFEST_DIR");
    let results = fs::read_to_string(format!("{package}/results.tsv"))
        .expect("results.tsv is written by a full run: cargo run --release");
    // Case, contestant, the median of the ratio.
    let ratios: Vec<(&str, &str, f64)> = results
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            Some((*cells.get(1)?, *cells.get(2)?, cells.get(8)?.parse().ok()?))
        })
        .collect();

    let mut body = String::new();
    let mut y = TOP;
    for Group { title, case, bars } in GROUPS {
        let _ = writeln!(body, "<text x='{}' y='{}' class='title'>{title}</text>", 10, y + BAR - 2.0);
        for name in *bars {
            let found = ratios.iter().find(|ratio| ratio.0 == *case && ratio.1 == *name);
            let Some((.., ratio)) = found else {
                panic!("{case}, {name} is not in the results");
            };
            let width = ratio.min(LONGEST) * UNIT;
            // Not across the line.
            let label = if *ratio > 0.6 { width.max(UNIT) } else { width };
            let cut = if *ratio > LONGEST { " (cut)" } else { "" };
            let _ = writeln!(
                body,
                "<rect x='{LEFT}' y='{y}' width='{width:.1}' height='{}' fill='{}'/>\
                 <text x='{:.1}' y='{}'>{ratio:.2} {name}{cut}</text>",
                BAR - 2.0,
                color(name),
                LEFT + label + 5.0,
                y + BAR - 3.0,
            );
            y += BAR;
        }
        y += GAP;
    }
    let (one, width, height) = (LEFT + UNIT, LEFT + LONGEST * UNIT + 150.0, y + 4.0);
    let svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' \
         font-family='sans-serif' font-size='10.5' fill='#333'>\n\
         <title>Processor time of minimio, mio and polling compared with bare system calls</title>\n\
         <style>.title {{ font-size: 12px; font-weight: bold }}</style>\n\
         <rect width='100%' height='100%' fill='white'/>\n\
         <text x='10' y='24' font-size='16' font-weight='bold'>Processor time, compared with bare system calls in the same mode</text>\n\
         <text x='10' y='43'>1 is epoll by hand; shorter is better. Medians of the ratio, round by round. Linux; the machine is named in README.md.</text>\n\
         {body}\
         <line x1='{one}' y1='{}' x2='{one}' y2='{}' stroke='#c33' stroke-width='1.2'/>\n\
         <text x='{one}' y='{}' text-anchor='middle' fill='#c33'>raw = 1</text>\n</svg>\n",
        TOP - 6.0,
        y - GAP + 4.0,
        TOP - 10.0,
    );
    let file = format!("{package}/chart.svg");
    fs::write(&file, svg).expect("the chart can be written");
    println!("{file}");
}
