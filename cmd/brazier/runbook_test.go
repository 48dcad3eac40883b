package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The runbook names events, keys and classes of the catalogue, alerts that there are, and commands with flags that there are.
func TestRunbook(t *testing.T) {
	t.Parallel()
	runbook, catalogue := read(t, "../../deploy/RUNBOOK.md"), read(t, "../../deploy/LOGS.md")
	rules := read(t, "../../deploy/prometheus-rules.yaml") + read(t, "../../deploy/alerts.md")
	rows := 0
	for line := range strings.Lines(runbook) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "](#") {
			continue
		}
		rows++
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[2], -1) {
			if !strings.Contains(catalogue, "`"+m[1]+"`") {
				t.Errorf("LOGS.md has no %s: %s", m[1], line)
			}
		}
		for alert := range strings.SplitSeq(strings.TrimSpace(cells[3]), ", ") {
			if alert != "" && !strings.Contains(rules, "alert: "+alert+"\n") {
				t.Errorf("no rule is called %s", alert)
			}
		}
		title := regexp.MustCompile(`\[(.*)\]`).FindStringSubmatch(cells[1])[1]
		if !strings.Contains(runbook, "\n## "+title+"\n") {
			t.Errorf("there is no section %q", title)
		}
	}
	if sections := strings.Count(runbook, "\n## "); rows < 15 || sections != rows {
		t.Errorf("%d rows and %d sections", rows, sections)
	}
	for _, section := range strings.Split(runbook, "\n## ")[1:] {
		for _, part := range []string{"\nMeans: ", "\nDo: ", "\nOver: "} {
			if !strings.Contains(section, part) {
				t.Errorf("%q has no %s", strings.SplitN(section, "\n", 2)[0], strings.TrimSpace(part))
			}
		}
		over := section[strings.Index(section, "\nOver: "):]
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(over, -1) {
			if !strings.Contains(catalogue, "`"+m[1]+"`") && !strings.Contains(read(t, "../../deploy/README.md"), "`"+m[1]+"`") {
				t.Errorf("%q is over with %s, which neither LOGS.md nor README.md has", strings.SplitN(section, "\n", 2)[0], m[1])
			}
		}
	}
	for _, m := range regexp.MustCompile("`brazier ([^`]+)`").FindAllStringSubmatch(runbook, -1) {
		words := strings.Fields(m[1])
		command := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.HasPrefix(w, "-") || strings.ToUpper(w) == w })
		if at := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") }); at >= 0 {
			command = slices.DeleteFunc(slices.Clone(words[:at]), func(w string) bool { return strings.ToUpper(w) == w })
		}
		code, help, complaints := runCommand(t, append(command, "--help")...)
		if code != 0 {
			t.Errorf("brazier %s: exit code %d, %s", m[1], code, complaints)
		}
		for _, w := range words {
			if flag, ok := strings.CutPrefix(w, "--"); ok && !strings.Contains(help, "--"+flag) {
				t.Errorf("brazier %s has no --%s", strings.Join(command, " "), flag)
			}
		}
	}
}

// Each rule for Prometheus leads to a section of the runbook.
func TestRunbookURLs(t *testing.T) {
	t.Parallel()
	const base = "https://github.com/brazier-relay/brazier/blob/main/deploy/RUNBOOK.md#"
	rules, runbook := read(t, "../../deploy/prometheus-rules.yaml"), read(t, "../../deploy/RUNBOOK.md")
	alerts := strings.Count(rules, "- alert: ")
	urls := regexp.MustCompile(`runbook_url: (\S+)`).FindAllStringSubmatch(rules, -1)
	if len(urls) != alerts || alerts == 0 {
		t.Errorf("%d alerts and %d addresses", alerts, len(urls))
	}
	for _, m := range urls {
		if anchor, ok := strings.CutPrefix(m[1], base); !ok || !strings.Contains(runbook, "](#"+anchor+")") {
			t.Errorf("no section of the runbook is at %s", m[1])
		}
	}
}
