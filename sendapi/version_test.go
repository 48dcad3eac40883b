package sendapi

import (
	"strings"
	"testing"
	"time"
)

func TestEndOfLife(t *testing.T) {
	tests := []struct {
		version string
		want    string
	}{
		{"v25.0", "2028-07-29"},
		{"v21.0", "2027-01-21"},
		{"v20.0", "2026-09-24"},
		{"v26.0", ""},
		{"v99.0", ""},
		{"", ""},
	}
	for _, tt := range tests {
		end, known := endOfLife(tt.version)
		if known != (tt.want != "") || known && end.Format(time.DateOnly) != tt.want {
			t.Errorf("endOfLife(%q) = %v, %v, want %q", tt.version, end, known, tt.want)
		}
	}
	if _, ok := endOfLife(defaultVersion); !ok {
		t.Error("the default version has no known end")
	}
}

func TestVersionWarning(t *testing.T) {
	tests := []struct {
		version, today string
		want           string // a part; empty for no warning
	}{
		{"v25.0", "2026-11-22", ""},
		{"v25.0", "2028-04-29", ""},
		{"v25.0", "2028-05-01", "ends on 2028-07-29"},
		{"v25.0", "2028-07-29", "ends on 2028-07-29"},
		{"v25.0", "2028-07-30", "ended on 2028-07-29"},
		{"v21.0", "2026-11-22", "ends on 2027-01-21"},
		{"v20.0", "2026-11-22", "ended on 2026-09-24"},
		{"v2.7", "2026-11-22", "ended long ago"},
		{"v19.0", "2026-11-22", "ended long ago"},
		{"v26.0", "2030-01-01", ""},
		{"v31.0", "2026-11-22", ""},
	}
	for _, tt := range tests {
		now, err := time.Parse(time.DateOnly, tt.today)
		if err != nil {
			t.Fatal(err)
		}
		got := VersionWarning(tt.version, now)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("VersionWarning(%s) on %s = %q, want %q", tt.version, tt.today, got, tt.want)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for _, good := range []string{"v25.0", "v2.12", "v100.0"} {
		if _, _, ok := parseVersion(good); !ok {
			t.Errorf("%q refused", good)
		}
	}
	for _, bad := range []string{"", "25.0", "v25", "v25.0/me", "v25.0 ", "v-1.0", "v025.0", "v25.0.1", "V25.0", "v25.x"} {
		if _, _, ok := parseVersion(bad); ok {
			t.Errorf("%q accepted", bad)
		}
	}
	for i := 1; i < len(versions); i++ {
		if !versionOlder(versions[i].name, versions[i-1].name) {
			t.Errorf("%s does not stand below %s", versions[i].name, versions[i-1].name)
		}
	}
}
