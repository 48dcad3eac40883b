package sendapi

import (
	"testing"
)

func TestParam(t *testing.T) {
	tests := []struct{ sentence, want string }{
		{"(#100) The parameter message[attachment][payload] is required", "message[attachment][payload]"},
		{`(#100) Param recipient[id] must be a valid ID string (e.g., "123")`, "recipient[id]"},
		{"(#100) Length of param message[text] must be less than or equal to 2000", "message[text]"},
		{`(#100) Invalid keys "preview" were found in param "message".`, "message"},
		{"(#100) The parameter messaging_type is required", "messaging_type"},
		{"(#100) param message[attachment][payload][elements][10][buttons][2][url] is bad", "message[attachment][payload][elements][10][buttons][2][url]"},
		{"(#105) param name_placeholder[buttons] has too many elements.", "[buttons]"},
		{"(#100) Param [elements][0][buttons][2][title] must be a non-empty UTF-8 encoded string", "[elements][0][buttons][2][title]"},
		{"(#100) The parameter text is required", "text"},
		{"(#100) param name_placeholder[secret] is bad", ""},
		{"(#100) param name_placeholder is bad", ""},
		{"(#100) the [elements][0] of the text", ""},
		{"(#10) This message is sent outside of allowed window.", ""},
		{"参数 message[text] 太长", "message[text]"},
		{"message[secret][text]", ""},
		{"message[text][secret]", "message[text]"},
		{"recipient[1254477777772919]", ""},
		{"", ""},
	}
	for _, tt := range tests {
		if got := paramIn(tt.sentence); got != tt.want {
			t.Errorf("paramIn(%q) = %q, want %q", tt.sentence, got, tt.want)
		}
	}
}
