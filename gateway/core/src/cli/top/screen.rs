//! How it is drawn.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table},
};

use super::view::{Look, Page, View, summary};

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View) {
    let [head, past, tabs, table, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(if frame.area().height >= 20 { 3 } else { 0 }),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    self::head(frame, head, view);
    let values: Vec<_> = view.past.iter().take(past.width.into()).copied().collect();
    let line = Sparkline::default()
        .data(values)
        .direction(ratatui::widgets::RenderDirection::RightToLeft)
        .style(Style::new().fg(Color::Blue));
    frame.render_widget(line, past);
    frame.render_widget(self::tabs(view), tabs);
    rows(frame, table, view);
    frame.render_widget(foot_of(view), foot);
}

fn head(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let text = match &view.live {
        Some(live) => {
            let (process, figures) = summary(live);
            vec![Line::styled(process, Modifier::BOLD), Line::raw(figures)]
        }
        None => vec![Line::raw("waiting for the first figures ...")],
    };
    frame.render_widget(Paragraph::new(text), area);
}

fn tabs(view: &View) -> Line<'_> {
    let tab = |(number, (page, name)): (usize, (Page, &'static str))| {
        let text = format!(" {} {name} ", number + 1);
        if page == view.page {
            Span::styled(text, Modifier::REVERSED)
        } else {
            Span::raw(text)
        }
    };
    let mut spans: Vec<_> = Page::ALL.into_iter().enumerate().map(tab).collect();
    if view.paused {
        spans.push(Span::styled(
            "  held: space goes on",
            Style::new().fg(Color::Yellow),
        ));
    }
    if view.typing || !view.filter.is_empty() {
        let cursor = if view.typing { "_" } else { "" };
        spans.push(Span::raw(format!("  /{}{cursor}", view.filter)));
    }
    spans.into()
}

fn rows(frame: &mut Frame<'_>, area: Rect, view: &mut View) {
    let block = Block::new().borders(Borders::TOP);
    let rows = view.rows();
    if rows.is_empty() {
        let text = match (view.live.is_some(), view.filter.is_empty(), view.page) {
            (false, _, _) => "",
            (true, false, _) => "nothing fits the filter: Esc shows all",
            (true, true, Page::Routes) => "there is no route",
            (true, true, Page::Endpoints) => "there is no upstream",
            (true, true, Page::Failures) => "no failure so far",
        };
        return frame.render_widget(Paragraph::new(text).block(block), area);
    }
    let last = rows.len() - 1;
    if view.selected.selected().is_some_and(|line| line > last) {
        view.selected.select(Some(last));
    }
    let heads = view.page.heads().iter().enumerate().map(|(column, head)| {
        let style = if view.sorted == Some(column) {
            Modifier::UNDERLINED
        } else {
            Modifier::DIM
        };
        Cell::from(*head).style(style)
    });
    let shown = rows.iter().map(|row| {
        let style = match row.look {
            Look::Plain => Style::new(),
            Look::Out => Style::new().fg(Color::Yellow),
            Look::Bad => Style::new().fg(Color::Red),
        };
        Row::new(row.cells.iter().map(String::as_str)).style(style)
    });
    let table = Table::new(shown, widths(view.page, area.width))
        .header(Row::new(heads))
        .row_highlight_style(Modifier::REVERSED)
        .block(block);
    frame.render_stateful_widget(table, area, &mut view.selected);
}

/// How wide columns are: names get what figures leave.
fn widths(page: Page, width: u16) -> Vec<Constraint> {
    let figure = Constraint::Length(6);
    match page {
        // A narrow screen has no room for where routes lead to.
        Page::Routes if width < 100 => [
            vec![Constraint::Fill(1)],
            vec![figure; 7],
            vec![Constraint::Length(0)],
        ]
        .concat(),
        Page::Routes => [
            vec![Constraint::Fill(2)],
            vec![figure; 7],
            vec![Constraint::Fill(2)],
        ]
        .concat(),
        Page::Endpoints => [
            vec![
                Constraint::Fill(2),
                Constraint::Fill(3),
                Constraint::Fill(4),
            ],
            vec![figure; 6],
        ]
        .concat(),
        Page::Failures => vec![
            Constraint::Length(6),
            figure,
            Constraint::Fill(2),
            Constraint::Fill(3),
            Constraint::Fill(6),
            Constraint::Length(if width < 120 { 0 } else { 36 }),
        ],
    }
}

fn foot_of(view: &View) -> Line<'_> {
    if let Some((upstream, endpoint, state)) = &view.asked {
        let what = if *state == "drain" {
            "drain"
        } else {
            "take out for maintenance"
        };
        let asked = format!("{what} {upstream} / {endpoint}? y: yes, any other key: no");
        return Line::styled(
            asked,
            Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
        );
    }
    if !view.said.is_empty() {
        return Line::raw(&*view.said);
    }
    Line::styled(
        "q quit  Tab page  s sort  r reverse  / filter  d drain  m maintenance  u up",
        Modifier::DIM,
    )
}
