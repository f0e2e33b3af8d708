//! Training curves → `curves.svg`. In: the history. Out: a picture of loss and F1 over steps. It must not compute metrics.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::train::display::history::History;

const SIZE: (u32, u32) = (900, 620);
const POINTS: usize = 400;

/// Writes the picture.
pub fn write(path: &Path, history: &History, steps: usize, title: &str) -> Result<()> {
    let mut svg = String::new();
    draw(&mut svg, history, steps, title)
        .map_err(|reason| Error::Write { path: path.to_owned(), source: reason.into() })?;
    crate::machine::files::write_whole(path, svg.as_bytes())
}

fn draw(svg: &mut String, history: &History, steps: usize, title: &str) -> Result<(), String> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let (upper, lower) = root.split_vertically(SIZE.1 / 2);
    let loss = history.loss_curve(POINTS);
    let highest = loss.iter().map(|point| point.1).fold(0.0, f64::max);
    series(&upper, &format!("{title}: loss"), loss, (steps, highest * 1.05), RGBColor(30, 90, 160), false)?;
    let f1 = history.f1_curve();
    series(&lower, "F1 on dev", f1, (steps, 1.0), RGBColor(190, 80, 20), true)?;
    root.present().map_err(|error| failed(&error))
}

fn series(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    caption: &str,
    points: Vec<(f64, f64)>,
    (steps, highest): (usize, f64),
    color: RGBColor,
    marked: bool,
) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..steps.max(1) as f64, 0.0..highest.max(1e-6))
        .map_err(|error| failed(&error))?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("step").light_line_style(WHITE).x_label_formatter(&|step| format!("{step:.0}"));
    mesh.draw().map_err(|error| failed(&error))?;
    chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(2))).map_err(|error| failed(&error))?;
    if marked {
        let marks = points.into_iter().map(|point| Circle::new(point, 3, color.filled()));
        chart.draw_series(marks).map_err(|error| failed(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::display::history::tests::trained;

    #[test]
    fn the_picture_has_both_curves() {
        let (folder, history) = trained();
        let path = folder.path().join("curves.svg");
        write(&path, &history, 8, "models/mine").unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        let curve = |color: &str| {
            let line = svg.lines().find(|line| line.starts_with("<polyline") && line.contains(color)).unwrap();
            line.split("points=\"").nth(1).unwrap().trim_end_matches("\"/>").split_whitespace().count()
        };
        assert_eq!((curve("#1E5AA0"), curve("#BE5014")), (4, 2));
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("models/mine: loss") && svg.contains("F1 on dev"));
    }
}
