package sendapi

import (
	"fmt"
	"time"
)

// defaultVersion is the Graph API version that a [Client] calls unless told
// otherwise: the version that Meta's own Send API pages use. It is not the newest, whose
// end is not announced.
const defaultVersion = "v25.0"

// versions are the Graph API versions, newest first (Graph API changelog). A
// version ends about two years after the release of its successor; the newest has no
// end yet. v26.0 was the newest in November 2026.
var versions = []struct {
	name       string
	introduced string
	until      string // the last day; empty where not announced
}{
	{"v26.0", "2026-07-29", ""},
	{"v25.0", "2026-02-18", "2028-07-29"},
	{"v24.0", "2025-10-08", "2028-02-18"},
	{"v23.0", "2025-05-29", "2027-10-08"},
	{"v22.0", "2025-01-21", "2027-05-20"},
	{"v21.0", "2024-10-02", "2027-01-21"},
	{"v20.0", "", "2026-09-24"}, // the day of its release was not looked up
}

// endOfLife returns the day until which Facebook serves a Graph API version such
// as "v25.0", as midnight UTC at the start of that day. It reports false for a
// version whose end is not known: the newest, and any that this package does not know.
func endOfLife(version string) (time.Time, bool) {
	for _, v := range versions {
		if v.name == version && v.until != "" {
			day, err := time.Parse(time.DateOnly, v.until)
			return day, err == nil
		}
	}
	return time.Time{}, false
}

// endOfLifeNotice is how long before the end of a version the warnings begin: a quarter,
// since a new version has to be tried first.
const endOfLifeNotice = 90 * 24 * time.Hour

// VersionWarning returns a sentence for the operator if a Graph API version has ended,
// ends within 90 days, or is older than every version that this package knows. It
// returns "" otherwise, also for a version newer than this package.
func VersionWarning(version string, now time.Time) string {
	end, known := endOfLife(version)
	switch {
	case known && !now.Before(end.AddDate(0, 0, 1)):
		return fmt.Sprintf("Graph API %s ended on %s: choose a newer version", version, end.Format(time.DateOnly))
	case known && now.Add(endOfLifeNotice).After(end):
		return fmt.Sprintf("Graph API %s ends on %s: choose a newer version", version, end.Format(time.DateOnly))
	case !known && versionOlder(version, versions[len(versions)-1].name):
		return fmt.Sprintf("Graph API %s ended long ago: choose a newer version", version)
	}
	return ""
}

// versionOlder reports whether a is a version before b. A malformed version is
// older than none.
func versionOlder(a, b string) bool {
	amajor, aminor, aok := parseVersion(a)
	bmajor, bminor, bok := parseVersion(b)
	if !aok || !bok {
		return false
	}
	return amajor < bmajor || amajor == bmajor && aminor < bminor
}

// parseVersion parses a version such as "v25.0".
func parseVersion(s string) (major, minor int, ok bool) {
	if _, err := fmt.Sscanf(s, "v%d.%d", &major, &minor); err != nil {
		return 0, 0, false
	}
	ok = major >= 0 && minor >= 0 && s == fmt.Sprintf("v%d.%d", major, minor)
	return major, minor, ok
}
