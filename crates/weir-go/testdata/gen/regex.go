// Writes ../regex.json: pattern, text, whether Go's regexp matches (null: it refuses the pattern).
package main

import (
	"encoding/json"
	"os"
	"regexp"
)

func main() {
	patterns := []string{
		`a{`, `a{,2}`, `a{2}`, `a{2,}`, `a{1,3}`, `a{3,1}`, `a{1001}`, `{`, `}`, `{}`, `a{b}`, `{{.x}}`, `a{1`, `x{0}`,
		`\Qa.b*\E`, `\Qa.b`, `\Qab\E+`, `\Q\E`, `a\E`, `\d+`, `\D`, `\w`, `\W`, `\s`, `\S`, `\bfoo\b`, `[\d]`, `[^\d]`, `[\w-]`, `[\s]`, `[\S]`, `[\W_]`,
		`(?P<n>a)`, `(?<n>a)`, `(?P<1n>a)`, `(?P<>a)`, `(?i)ABC`, `(?i:ab)c`, `(?s).`, `.`, `(?U)a+`, `(?m)^b$`, `(?x)a b`, `(?=a)`, `(?!a)`, `(?<=a)b`,
		`\C`, `\1`, `\0`, `\012`, `\x41`, `\x{41}`, `\x{110000}`, `\x`, `\xg1`, `\q`, `\_`, `\-`, `\/`, `\"`, `\'`, `\<`, `\u0041`, `\é`,
		`[[:alpha:]]`, `[[:^alpha:]]`, `[[:word:]]`, `[[:nope:]]`, `[a&&b]`, `[a--b]`, `[a~~b]`, `[[a]`, `[]a]`, `[^]a]`, `[]`, `[a`, `[a-]`, `[-a]`, `[a-c]`, `[c-a]`, `[a\]b]`, `[\Qa\E]`, `[.]`, `[#]`, `[ ]`, `[a\-c]`, `[+--]`,
		`\pL`, `\p{Greek}`, `\P{Greek}`, `\p{^Greek}`, `\pN`, `\p{Nope}`, `\p{L`, `[\pL]`, `[^\p{Lu}]`, `\p{Any}`,
		`a**`, `a*?`, `a+?`, `a??`, `a*+`, `*a`, `+`, `?`, `a||b`, `|`, `(`, `)`, `()`, `(|a)`, `a(b`, `^*`, `$`, `^$`, `\A`, `\z`, `\Z`, `\Aab\z`, `(?i)é`, `é+`, `\t`, `\n`, `\v`, `\f`, `\a`, `\e`, `a\`,
		`(?i)k`, `(?-s).`, `(?si)a.B`, `(?:a|b)+`, `((a)(b))`, `#`, `a#b`, `a b`, `&&`, `~`, `(?i`, `(?P<n>a`, `(?P=n)`, `a+*`, `a???`, `[a-\d]`, `[\d-z]`, `[a-b-c]`, `[z--]`, `[--a]`, `[\x41-C]`, `[\]-a]`, `node-?[0-9]{1,3}`, `5..`, `(2|3)\d\d`,
	}
	texts := []string{"", "a", "aa", "aaa", "ab", "abc", "ABC", "a{", "{", "}", "{}", "{{.x}}", "a.b*", "abb", "5", "a1", " ", "\n", "\v", "a\nb", "b", "foo", "xfoox", "é", "É", "٣", "α", "-", "_", "&", "~", "[", "]", "^", "\x00", "A", "\t", "K", "\u212a", "node-12", "503", "a b", "a#b", "b]", "+", ",", "a-"}
	var out [][]any
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		for _, t := range texts {
			if err != nil {
				out = append(out, []any{p, "", nil})
				break
			}
			out = append(out, []any{p, t, re.MatchString(t)})
		}
	}
	f, _ := os.Create("../regex.json")
	f.WriteString("[\n")
	for i, c := range out {
		b, _ := json.Marshal(c)
		f.Write(b)
		if i < len(out)-1 {
			f.WriteString(",")
		}
		f.WriteString("\n")
	}
	f.WriteString("]\n")
}
