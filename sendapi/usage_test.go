package sendapi

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParseUsage(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	business := func(v ...string) http.Header { return http.Header{"X-Business-Use-Case-Usage": v} }
	tests := []struct {
		name   string
		header http.Header
		want   Usage
	}{
		{"nothing", nil, Usage{}},
		{
			"app",
			http.Header{"X-App-Usage": {`{"call_count":28,"total_time":25,"total_cputime":25}`}},
			Usage{App: 28},
		},
		{
			"page",
			business(`{"1029384756":[{"type":"messenger","call_count":1,"total_cputime":1,"total_time":2,"estimated_time_to_regain_access":0}]}`),
			Usage{Page: 2},
		},
		{
			"refused: over 100, and of another kind",
			business(`{"1029384756":[{"type":"pages","call_count":107,"total_cputime":3,"total_time":125,"estimated_time_to_regain_access":14}]}`),
			Usage{Page: 125, RegainAfter: 14 * time.Minute},
		},
		{
			"one id twice, several kinds",
			business(`{"1":[{"type":"messenger","call_count":95,"total_cputime":20,"total_time":20,"estimated_time_to_regain_access":19}],` +
				`"1":[{"type":"pages","call_count":97,"total_cputime":23,"total_time":23,"estimated_time_to_regain_access":0}],` +
				`"2":[{"type":"instagram","call_count":5}]}`),
			Usage{Page: 97, RegainAfter: 19 * time.Minute},
		},
		{
			"other types slow nothing",
			business(`{"1":[{"type":"ads_insights","call_count":99,"total_time":120,"estimated_time_to_regain_access":60},` +
				`{"call_count":98, "estimated_time_to_regain_access":50,"type" : "instagram"},{"type":"messenger","call_count":7}],` +
				`"2":[{"type":"ads_management","call_count":97}]}`),
			Usage{Page: 7},
		},
		{"another type, broken off", business(`{"1":[{"type":"ads_insights","call_count":99`), Usage{}},
		{"type of another form", business(`{"1":[{"type":null,"call_count":99}]}`), Usage{}},
		{"fractions round up", business(`{"1":[{"call_count":10.2,"estimated_time_to_regain_access":0.5}]}`), Usage{Page: 11, RegainAfter: 30 * time.Second}},
		{"strings", business(`{"1":[{"call_count":"42","estimated_time_to_regain_access":"3"}]}`), Usage{Page: 42, RegainAfter: 3 * time.Minute}},
		{"header twice", business(`{"1":[{"call_count":10}]}`, `{"2":[{"call_count":20}]}`), Usage{Page: 20}},
		{"old page header", http.Header{"X-Page-Usage": {`{"call_count":7,"total_time":1,"total_cputime":1}`}}, Usage{Page: 7}},
		{"broken off", business(`{"1":[{"call_count":33},{"call_count":4`), Usage{Page: 33}},
		{"a value that is a key", business(`{"1":[{"type":"call_count","other":5}]}`), Usage{}},
		{"no JSON", business(`call_count=5`), Usage{}},
		{"negative", business(`{"1":[{"call_count":-5,"estimated_time_to_regain_access":-1}]}`), Usage{}},
		{"huge", business(`{"1":[{"call_count":1e300,"estimated_time_to_regain_access":1e300}]}`), Usage{Page: maxPercent, RegainAfter: maxPause}},
		{"deep", business(strings.Repeat("[", 20000)), Usage{}},
		{"retry after seconds", http.Header{"Retry-After": {"120"}}, Usage{RetryAfter: 2 * time.Minute}},
		{"retry after a date", http.Header{"Retry-After": {"Sun, 22 Nov 2026 12:01:30 GMT"}}, Usage{RetryAfter: 90 * time.Second}},
		{"retry after a date gone by", http.Header{"Retry-After": {"Sun, 22 Nov 2026 11:00:00 GMT"}}, Usage{}},
		{"retry after a year", http.Header{"Retry-After": {"31536000"}}, Usage{RetryAfter: maxPause}},
		{"retry after nonsense", http.Header{"Retry-After": {"soon"}}, Usage{}},
		{"retry after not a number", http.Header{"Retry-After": {"NaN"}}, Usage{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseUsage(tt.header, now); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func FuzzUsage(f *testing.F) {
	f.Add(`{"1":[{"type":"messenger","call_count":107,"total_cputime":1,"total_time":125,"estimated_time_to_regain_access":14}]}`, "120")
	f.Add(`{"call_count":28,"total_time":25,"total_cputime":25}`, "Sun, 22 Nov 2026 12:01:30 GMT")
	f.Add(`{"1":[{"call_count":"1e9"}],"1":[[`, "-1")
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, header, retryAfter string) {
		u := parseUsage(http.Header{
			"X-Business-Use-Case-Usage": {header},
			"X-App-Usage":               {header},
			"Retry-After":               {retryAfter},
		}, now)
		if u.Page != u.App {
			t.Errorf("one header, two readings: %+v", u)
		}
		if u.Page < 0 || u.Page > maxPercent {
			t.Errorf("percent out of bounds: %+v", u)
		}
		for _, d := range []time.Duration{u.RegainAfter, u.RetryAfter} {
			if d < 0 || d > maxPause {
				t.Errorf("pause out of bounds: %+v", u)
			}
		}
	})
}
