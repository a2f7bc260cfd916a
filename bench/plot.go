package main

import (
	"fmt"
	"html"
	"os"
	"strings"
)

// Sizes of the plot, in pixels.
const (
	labelWidth = 430
	barsWidth  = 420
	rowHeight  = 22
	maxRatio   = 8 // bars of a higher ratio are truncated; all bars are labelled with the ratio
)

// writePlot draws one bar for each row that has a ratio, with a mark at its target.
func writePlot(path string, rows []Row) error {
	var bars strings.Builder
	y := 10
	scale := func(ratio float64) float64 { return min(ratio, maxRatio) * barsWidth / maxRatio }
	for _, r := range rows {
		if r.Floor == 0 {
			continue
		}
		colour := "#4a7ebb"
		if !r.met() {
			colour = "#c0504d"
		}
		fmt.Fprintf(&bars, `<text x="%d" y="%d" text-anchor="end">%s</text>`,
			labelWidth-8, y+14, html.EscapeString(r.Name))
		fmt.Fprintf(&bars, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`,
			labelWidth, y+3, scale(r.Ratio), rowHeight-8, colour)
		fmt.Fprintf(&bars, `<text x="%.1f" y="%d">%.2f</text>`, labelWidth+scale(r.Ratio)+4, y+14, r.Ratio)
		if r.Target != 0 {
			x := labelWidth + scale(r.Target)
			fmt.Fprintf(&bars, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="black"/>`, x, x, y, y+rowHeight-2)
		}
		bars.WriteString("\n")
		y += rowHeight
	}
	text := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d"`+
		` font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
%s</svg>
`, labelWidth+barsWidth+60, y+10, bars.String())
	return os.WriteFile(path, []byte(text), 0o644)
}
