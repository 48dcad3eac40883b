package main

import (
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

var updatePicture = flag.Bool("update", false, "draw "+picturePath+" anew, from what the demo prints")

const picturePath = "../../deploy/demo.svg"

// TestDemoPicture runs the demo and compares the picture at the top of README.md with what it printed. Figures differ from
// run to run and are not compared. After a change of what the demo prints:
//
//	go test ./cmd/brazier -run TestDemoPicture -update
func TestDemoPicture(t *testing.T) {
	t.Parallel()
	code, out, complaints := runCommand(t, "demo", "--exit")
	if code != cli.ExitOK {
		t.Fatalf("exit code %d, %s", code, complaints)
	}
	printed := onTerminal(out)
	if *updatePicture {
		if err := os.WriteFile(picturePath, drawTerminal(printed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := shapes(t, readTerminal(t, read(t, picturePath))), shapes(t, printed); !slices.Equal(got, want) {
		t.Errorf("%s shows\n%s\nand the demo prints\n%s\nDraw it anew with -update.", picturePath, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// demoPrompt is the first line of the picture.
const demoPrompt = "$ go run ./cmd/brazier demo"

// onTerminal returns the lines that a terminal shows at the end. There the progress line is replaced and then removed.
func onTerminal(out string) []string {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.ContainsAny(line, "█░") })
	return append([]string{demoPrompt}, lines...)
}

// Sizes in pixels. A character of a monospace font is about 0.6 times as wide as the font is high.
const (
	fontSize   = 13
	lineHeight = 18
	charWidth  = 7.85
	margin     = 16
)

// drawTerminal draws lines as an SVG picture of a terminal.
func drawTerminal(lines []string) []byte {
	width := 0
	for _, line := range lines {
		width = max(width, utf8.RuneCountInString(line))
	}
	var b strings.Builder
	w, h := int(float64(width)*charWidth)+2*margin, len(lines)*lineHeight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, "<title>What brazier demo prints</title>\n<rect width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#161b22\"/>\n", w, h)
	fmt.Fprintf(&b, `<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="%d" fill="#d7dde4" style="white-space:pre" xml:space="preserve">`+"\n", fontSize)
	for i, line := range lines {
		if line == "" {
			continue
		}
		fill := ""
		if line == demoPrompt {
			fill = ` fill="#7ee787"`
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d"%s>`, margin, margin+fontSize+i*lineHeight, fill)
		_ = xml.EscapeText(&b, []byte(line)) // into memory
		b.WriteString("</text>\n")
	}
	b.WriteString("</g>\n</svg>\n")
	return []byte(b.String())
}

// readTerminal returns the lines that drawTerminal drew.
func readTerminal(t *testing.T, svg string) []string {
	t.Helper()
	var picture struct {
		Lines []string `xml:"g>text"`
	}
	if err := xml.Unmarshal([]byte(svg), &picture); err != nil {
		t.Fatalf("%s: %v", picturePath, err)
	}
	return picture.Lines
}

var (
	figure    = regexp.MustCompile(`\d+(\.\d+)?`)
	spaces    = regexp.MustCompile(` +`)
	reasonRow = regexp.MustCompile(`^(?: (?:rejected|retried|in doubt|held|dead) N)? N × `)
)

// shapes returns the lines of a demo without figures and empty lines. The reasons are sorted: which of two is listed first
// depends on their counts.
func shapes(t *testing.T, lines []string) (found []string) {
	t.Helper()
	var reasons []string
	for _, line := range lines {
		line = spaces.ReplaceAllString(figure.ReplaceAllString(line, "N"), " ")
		if at := reasonRow.FindString(line); at != "" {
			reasons = append(reasons, line[len(at):])
			line = at
		}
		if line != "" {
			found = append(found, line)
		}
	}
	if len(reasons) == 0 {
		t.Errorf("no reasons in\n%s", strings.Join(lines, "\n"))
	}
	slices.Sort(reasons)
	return append(found, reasons...)
}
