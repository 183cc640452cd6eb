"""The look of all cards: one small style sheet, and the colours of charts.

Text takes the theme's colour. Everything else is a translucent colour of middle lightness,
which reads on white and on black. Selectors are scoped to ``.nbm`` and strong enough to
win over JupyterLab's own rules for tables.
"""

from __future__ import annotations

BAR_COLOUR = (59, 130, 246)
TRACK_COLOUR = (128, 128, 128, 46)  # the last is opacity, of 255

_TONES = {
    "calm": "128,128,128",
    "info": "59,130,246",
    "good": "34,160,84",
    "warn": "217,140,0",
    "bad": "220,60,60",
}
# Of code; middle lightness, as all colours here, reads on white and on black.
_CODE = {
    "keyword": "rgb(140,95,210)",
    "text": "rgb(30,140,80)",
    "number": "rgb(190,110,20)",
    "comment": "rgb(128,128,128)",
    "magic": "rgb(40,120,220)",
    "added": "rgb(34,150,80)",
    "removed": "rgb(215,70,70)",
    "place": "rgb(128,128,128)",
}
_LINE = "rgba(128,128,128,.25)"

STYLE = (
    ".nbm{font:13px/1.5 var(--jp-ui-font-family,var(--vscode-font-family,system-ui,sans-serif));"
    "color:var(--jp-content-font-color1,var(--vscode-foreground,currentColor));"
    "max-width:960px;padding:2px 0 6px}"
    # Else they are white on black: notebooks do not tell the browser that a theme is dark.
    ".nbm pre.nbm-code,.nbm .nbm-scroll{scrollbar-color:rgba(128,128,128,.6) transparent}"
    ".nbm .nbm-head{margin:0 0 4px;line-height:1.9}"
    ".nbm .nbm-title{font-size:15px;font-weight:600;margin-right:4px}"
    ".nbm code{font:12px var(--jp-code-font-family,var(--vscode-editor-font-family,monospace));"
    "color:inherit}"
    # JupyterLab's rule for code outside <pre> is stronger than that for code in a card.
    ".nbm code.nbm-mono,.nbm pre.nbm-code code{background:none;padding:0;border:0}"
    ".nbm code.nbm-mono{user-select:all;-webkit-user-select:all;overflow-wrap:anywhere}"
    ".nbm code.nbm-chip{font:11px/1.5 var(--jp-ui-font-family,var(--vscode-font-family,system-ui,"
    "sans-serif));padding:1px 7px;border-radius:9px;white-space:nowrap}"
    + "".join(
        f".nbm code.nbm-{tone}{{background:rgba({rgb},.16);"
        f"box-shadow:inset 0 0 0 1px rgba({rgb},.45)}}"
        for tone, rgb in _TONES.items()
    )
    + ".nbm table.nbm-t{border-collapse:collapse;border:0;margin:4px 0 8px;table-layout:auto;"
    "font-size:13px;width:auto;color:inherit}"
    ".nbm table.nbm-t caption{caption-side:top;text-align:left;font-weight:600;padding:4px 0;"
    "color:inherit}"
    ".nbm table.nbm-t tr,.nbm table.nbm-t tr:hover{background:none}"
    f".nbm table.nbm-t th,.nbm table.nbm-t td{{border:0;border-bottom:1px solid {_LINE};"
    "padding:3px 16px 3px 0;text-align:left;vertical-align:baseline;color:inherit;max-width:520px;"
    "white-space:normal;overflow-wrap:break-word;line-height:1.5;background:none}"
    ".nbm table.nbm-t td.nbm-1,.nbm table.nbm-t code.nbm-mono{white-space:nowrap}"
    # All of the width for what is said: a digest stays on one line.
    ".nbm table.nbm-facts{width:100%}"
    ".nbm table.nbm-facts th{width:1%}"
    ".nbm table.nbm-facts td{overflow-wrap:anywhere;max-width:none}"
    ".nbm table.nbm-facts code.nbm-mono{white-space:normal}"
    ".nbm table.nbm-t th[align=right],.nbm table.nbm-t td[align=right]{text-align:right;"
    "font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".nbm table.nbm-t th{font-weight:600;white-space:nowrap}"
    ".nbm table.nbm-facts th{font-weight:400;opacity:.7;border:0;padding:1px 16px 1px 0}"
    ".nbm table.nbm-facts td{border:0;padding:1px 0}"
    ".nbm table.nbm-grid td{border:0;padding:4px 10px 4px 0;text-align:center;font-size:12px}"
    ".nbm .nbm-scroll{overflow-x:auto}"
    ".nbm .nbm-beside{display:flex;flex-wrap:wrap;gap:4px 24px;align-items:flex-start}"
    ".nbm .nbm-beside>div{min-width:0}"
    ".nbm img{margin:0;max-width:100%;vertical-align:middle;display:inline}"
    ".nbm table.nbm-t td>img{max-width:none;border-radius:2px}"
    ".nbm .nbm-pic>img{height:auto;border-radius:3px}"
    ".nbm p.nbm-note{margin:3px 0;max-width:720px}"
    ".nbm p.nbm-faint{opacity:.7}"
    f".nbm p.nbm-bad,.nbm p.nbm-warn{{padding-left:8px;border-left:3px solid rgba({_TONES['bad']},.8)}}"
    f".nbm p.nbm-warn{{border-left-color:rgba({_TONES['warn']},.8)}}"
    ".nbm details{margin:2px 0 4px}"
    ".nbm summary{cursor:pointer;opacity:.75}"
    ".nbm pre.nbm-code{margin:4px 0;padding:8px 10px;border-radius:4px;overflow:auto;"
    "background:rgba(128,128,128,.1);max-height:420px;color:inherit;white-space:pre}"
    ".nbm pre.nbm-code code{user-select:text;white-space:inherit}"
    + "".join(f".nbm pre .nbm-{kind}{{color:{colour}}}" for kind, colour in _CODE.items())
    + ".nbm progress{width:260px;height:8px;vertical-align:middle;accent-color:rgb(59,130,246)}"
)
