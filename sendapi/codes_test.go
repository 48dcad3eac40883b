package sendapi

import (
	"slices"
	"testing"
)

func TestTable(t *testing.T) {
	type key struct {
		first, last, subcode int
		typ                  string
	}
	seen := map[key]bool{}
	for _, r := range rows {
		k := key{r.code, r.lastCode, r.subcode, r.typ}
		if seen[k] {
			t.Errorf("two rows for %+v", k)
		}
		seen[k] = true
		if !slices.Contains(Classes(), r.Class) {
			t.Errorf("%+v: class %q is not in the set", k, r.Class)
		}
		if r.Meaning == "" || r.Source == "" {
			t.Errorf("%+v: no meaning or no source", k)
		}
		if r.code == 0 {
			t.Errorf("%+v: 0 stands for no code", k)
		}
		if r.lastCode != 0 && (r.lastCode <= r.code || r.subcode != 0) {
			t.Errorf("%+v: not a range of codes", k)
		}
		if r.others != "" && (!slices.Contains(Classes(), r.others) || r.subcode != 0) {
			t.Errorf("%+v: Others is %q", k, r.others)
		}
		if r.aboutOne && r.Class != ClassMessage {
			t.Errorf("%+v: AboutOne beside class %s, which says it or denies it", k, r.Class)
		}
		if got, ok := Explain(r.code, r.subcode, r.typ); !ok || got != r {
			t.Errorf("Explain(%d, %d, %q) = %+v, %v, want the row itself", r.code, r.subcode, r.typ, got, ok)
		}
	}
}

func TestClassesIsTheClosedSet(t *testing.T) {
	want := []Class{
		"transient", "throttle", "throttle_app", "auth", "page", "recipient",
		"window", "thread", "message", "in_doubt", "delivered_anyway", "expired",
	}
	if got := Classes(); !slices.Equal(got, want) {
		t.Errorf("Classes() = %q, want %q", got, want)
	}
}

// Each code that Meta's pages or other senders name for sending, with the class
// that it must have.
func TestClassOfCode(t *testing.T) {
	tests := []struct {
		code     int
		subcodes []int
		want     Class
	}{
		{-1, []int{0, 99}, ClassTransient},
		{1, []int{0, 99, 7}, ClassTransient},
		{1, []int{1357046}, ClassDeliveredAnyway},
		{2, []int{0, 5}, ClassTransient},
		{2, []int{2018344}, ClassPage},
		{3, []int{0}, ClassMessage},
		{4, []int{0, 1}, ClassThrottleApp},
		{4, []int{2018022}, ClassThrottle},
		{4, []int{2018354}, ClassRecipient},
		{9, []int{2018352}, ClassThrottle},
		{10, []int{0, 2018028, 1893063}, ClassPage},
		{10, []int{2018278, 2018065, 2534022, 2534044}, ClassWindow},
		{10, []int{2018108, 1893015}, ClassRecipient},
		{10, []int{2018300}, ClassThread},
		{10, []int{2018336, 2534077, 1404170, 1, 2018276}, ClassMessage},
		{17, []int{0}, ClassThrottle},
		{32, []int{0}, ClassThrottle},
		{100, []int{0, 1, 2018008, 2018014, 2018032, 2018034, 2018047, 2018048, 2018074}, ClassMessage},
		{100, []int{2018109, 2018294, 2018320, 2018328, 1893061, 1893029, 1893043}, ClassMessage},
		{100, []int{2018416, 2388051, 2534013, 2534014, 2534015, 2534025, 33, 2018276, 1689001}, ClassMessage},
		{100, []int{2018001, 2534001}, ClassRecipient},
		{100, []int{2018164, 2534029}, ClassPage},
		{100, []int{2534037}, ClassThread},
		{101, []int{0, 5}, ClassPage},
		{102, []int{0}, ClassAuth},
		{104, []int{0, 5}, ClassAuth},
		{105, []int{0}, ClassMessage},
		{190, []int{0, 458, 459, 460, 463, 464, 467, 492, 1234567}, ClassAuth},
		{200, []int{0, 2018028, 2534041}, ClassPage},
		{200, []int{1, 33, 2018021, 2018027}, ClassMessage},
		{200, []int{1545041}, ClassRecipient},
		{201, []int{0}, ClassPage},
		{210, []int{0}, ClassPage},
		{230, []int{0}, ClassPage},
		{230, []int{5}, ClassMessage},
		{299, []int{0}, ClassPage},
		{299, []int{5}, ClassMessage},
		{341, []int{0}, ClassThrottleApp},
		{368, []int{0, 1390008}, ClassPage},
		{368, []int{1346003}, ClassMessage},
		{506, []int{0}, ClassMessage},
		{546, []int{0}, ClassMessage},
		{551, []int{0, 1545041, 1893047, 3}, ClassRecipient},
		{613, []int{0, 2534040, 3}, ClassThrottle},
		{613, []int{1996}, ClassThrottleApp},
		{613, []int{2018338, 1893016}, ClassRecipient},
		{1200, []int{0, 2018024}, ClassTransient},
		{2022, []int{0}, ClassPage},
		{2500, []int{0}, ClassPage},
		{10303, []int{0}, ClassMessage},
		{10900, []int{0}, ClassMessage},
		{10903, []int{0}, ClassRecipient},
		{10904, []int{0}, ClassPage},
		{24001, []int{0}, ClassMessage},
		{24005, []int{0}, ClassMessage},
		{36000, []int{0}, ClassMessage},
		{80000, []int{0}, ClassThrottle},
		{80001, []int{0}, ClassThrottle},
		{80002, []int{0}, ClassThrottle},
		{80003, []int{0}, ClassThrottle},
		{80004, []int{0, 2446079}, ClassThrottle},
		{80005, []int{0}, ClassThrottle},
		{80006, []int{0}, ClassThrottle},
		{80008, []int{0}, ClassThrottle},
		{80009, []int{0}, ClassThrottle},
		{80014, []int{0}, ClassThrottle},
		{1609005, []int{0}, ClassMessage},
		{2018144, []int{0}, ClassMessage},
		{2018300, []int{0}, ClassThread},
		{2018321, []int{0}, ClassThread},
		{2018396, []int{0}, ClassMessage},
		{2071025, []int{0}, ClassMessage},
		{9000001, []int{0}, ClassMessage},
	}
	for _, tt := range tests {
		for _, subcode := range tt.subcodes {
			for _, status := range []int{200, 400, 403, 500, 504} {
				for _, typ := range []string{"", "OAuthException", "FacebookApiException", "IGApiException"} {
					if got := classify(tt.code, subcode, typ, false, status); got != tt.want {
						t.Errorf("code %d/%d %s with HTTP %d is %s, want %s", tt.code, subcode, typ, status, got, tt.want)
					}
				}
			}
		}
	}
}

// With code 100 the type alone tells the call's fault from the message's.
func TestClassOfType(t *testing.T) {
	tests := []struct {
		code, subcode int
		typ           string
		want          Class
	}{
		{100, 0, "GraphMethodException", ClassPage},
		{100, 33, "GraphMethodException", ClassPage},
		{100, 4711, "GraphMethodException", ClassPage},
		{100, 2018001, "GraphMethodException", ClassRecipient},
		{100, 2018047, "GraphMethodException", ClassMessage},
		{100, 0, "OAuthException", ClassMessage},
		{100, 33, "OAuthException", ClassMessage},
		{190, 463, "GraphMethodException", ClassAuth},
		{613, 0, "GraphMethodException", ClassThrottle},
		{10, 2018278, "GraphMethodException", ClassWindow},
	}
	for _, tt := range tests {
		for _, status := range []int{200, 400, 403, 500} {
			if got := classify(tt.code, tt.subcode, tt.typ, false, status); got != tt.want {
				t.Errorf("code %d/%d %s with HTTP %d is %s, want %s", tt.code, tt.subcode, tt.typ, status, got, tt.want)
			}
		}
	}
}

func TestClassWhereTheTableIsNotEnough(t *testing.T) {
	tests := []struct {
		name          string
		code, subcode int
		transient     bool
		status        int
		want          Class
	}{
		{"unknown code", 777777, 0, false, 400, ClassMessage},
		{"unknown negative code", -7, 0, false, 400, ClassMessage},
		{"unknown code, called transient", 777777, 0, true, 400, ClassTransient},
		{"unknown code with 401", 777777, 0, false, 401, ClassAuth},
		{"unknown code with 403", 777777, 0, false, 403, ClassMessage},
		{"unknown code with 404", 777777, 0, false, 404, ClassPage},
		{"unknown code with 408", 777777, 0, false, 408, ClassTransient},
		{"unknown code with 429", 777777, 0, false, 429, ClassThrottle},
		{"unknown code with 500", 777777, 0, false, 500, ClassTransient},
		{"unknown code with 504", 777777, 0, false, 504, ClassTransient},
		{"unknown code with 200", 777777, 0, false, 200, ClassInDoubt},
		{"unknown code with no status", 777777, 0, false, 0, ClassInDoubt},
		{"no code", 0, 0, false, 400, ClassMessage},
		{"no code, called transient", 0, 0, true, 400, ClassTransient},
		{"general row that condemns, called transient", 100, 0, true, 400, ClassTransient},
		{"new subcode of a code that condemns, called transient", 551, 42, true, 400, ClassTransient},
		{"new subcode of a code that does not condemn, called transient", 10, 42, true, 403, ClassTransient},
		{"range that condemns, called transient", 24003, 0, true, 400, ClassTransient},
		{"row of the subcode, called transient", 551, 1893047, true, 400, ClassRecipient},
		{"window, called transient", 10, 2018278, true, 400, ClassWindow},
		{"throttle, called transient", 4, 0, true, 403, ClassThrottleApp},
		{"token, called transient", 190, 463, true, 400, ClassAuth},
		{"page, called transient", 10, 0, true, 400, ClassPage},
		{"sent, called transient", 1, 1357046, true, 500, ClassDeliveredAnyway},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := classify(tt.code, tt.subcode, "", tt.transient, tt.status); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	tests := []struct {
		code, subcode int
		typ           string
		row           rowKey
		known         bool
		meaning       string
	}{
		{10, 2018278, "", rowKey{10, 2018278, ""}, true, "outside the allowed window"},
		{10, 4711, "", rowKey{10, 0, ""}, true, "subcode 4711 is not known"},
		{100, 4711, "", rowKey{100, 0, ""}, true, "subcode 4711 is not known"},
		{100, 33, "", rowKey{100, 33, ""}, true, "no such object, or no permission for it"},
		{100, 33, methodException, rowKey{100, 33, methodException}, true, "the call is refused: the token is not a page's, or the Graph API version or URL is wrong"},
		{100, 2018001, methodException, rowKey{100, 2018001, ""}, true, "no such person for this page"},
		{190, 4711, "", rowKey{190, 0, ""}, true, "the page access token is invalid; subcode 4711 is not known"},
		{9, 0, "", rowKey{}, false, ""}, // only one subcode of 9 is known
		{250, 4711, "", rowKey{201, 0, ""}, true, "subcode 4711 is not known"},
		{230, 0, "", rowKey{230, 0, ""}, true, "pages_messaging is missing, or permissions do not allow the message"},
		{2018300, 0, "", rowKey{2018300, 0, ""}, true, "another app controls this conversation"}, // has a row inside a range
		{300, 0, "", rowKey{}, false, ""},
		{0, 0, "", rowKey{}, false, ""},
	}
	for _, tt := range tests {
		row, known := Explain(tt.code, tt.subcode, tt.typ)
		if known != tt.known || (rowKey{row.code, row.subcode, row.typ}) != tt.row || row.Meaning != tt.meaning {
			t.Errorf("Explain(%d, %d, %q) = %+v, %v", tt.code, tt.subcode, tt.typ, row, known)
		}
	}
}
