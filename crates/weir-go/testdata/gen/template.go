// Writes ../template.json: template, what Go's text/template prints over the data below
// (null: it fails, at parsing or when executed).
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

var templates = []string{
	"plain", "{{.name}}", "{{ .name }}", "{{.m.a}}", "{{.m.zz}}", "{{.list}}", "{{.m}}", "{{.n}} {{.f}} {{.t}}", "{{.big}} {{.small}} {{1e20}} {{1234567.0}}",
	"a {{- .name -}} b", "a {{- /* c */ -}} b", "{{/* c */}}x", "a\n  {{- if true}} x{{end -}}  \n b", "{{- 3}}", "{{ 3 -}} x", "{{3}}{{-3}}",
	"{{if .name}}y{{else}}n{{end}}", "{{if .empty}}y{{else}}n{{end}}", "{{if eq .n 1}}a{{else if eq .n 42}}b{{else}}c{{end}}", "{{if .zero}}y{{end}}",
	"{{range .list}}<{{.}}>{{end}}", "{{range $i, $e := .list}}{{$i}}={{$e}};{{end}}", "{{range $k, $v := .m}}{{$k}}={{$v}};{{end}}", "{{range .none}}x{{else}}empty{{end}}", "{{range $e := .list}}{{$e}}{{end}}",
	"{{range .list}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "{{range .list}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "{{break}}", "{{range 3}}{{.}}{{end}}",
	"{{with .name}}{{.}}{{end}}", "{{with .empty}}x{{else}}none{{end}}", "{{with $x := .m}}{{$x.a}}{{end}}", "{{with .empty}}x{{else with .name}}{{.}}{{end}}",
	"{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}", "{{$x := 1}}{{if true}}{{$x = 3}}{{end}}{{$x}}", "{{$x := 1}}{{if true}}{{$x := 3}}{{$x}}{{end}}{{$x}}", "{{$y}}", "{{$x = 1}}", "{{$}}x{{$.name}}",
	"{{define \"a\"}}A{{.}}{{end}}{{template \"a\" .name}}", "{{template \"a\"}}", "{{define \"r\"}}{{if .}}{{slice . 1}}|{{template \"r\" (slice . 1)}}{{end}}{{end}}{{template \"r\" \"abc\"}}", "{{block \"b\" .n}}[{{.}}]{{end}}", "{{template \"nope\"}}",
	"{{printf \"%s-%d\" .name .n}}", "{{.name | printf \"%s!\"}}", "{{.name | printf \"%q\" | len}}", "{{printf \"%.2f|%5.1f|%-6.1f|%06.2f|%+.1f\" .f .f .f .f .f}}", "{{printf \"%v %v %v\" .n .f .name}}", "{{printf \"%d\" .f}}", "{{printf \"%s\" .n}}", "{{printf \"%d %d\" 1}}", "{{printf \"%d\" 1 2}}", "{{printf \"%5d|%-5d|%05d|%+d|%x|%X|%o|%b|%c|%U\" 42 42 42 42 255 255 8 5 65 65}}", "{{printf \"%e %E %g %G\" .f .f .f .f}}", "{{printf \"%.3g %.3g %.3g\" .f .big .small}}", "{{printf \"%t %v\" true false}}", "{{printf \"%q\" \"a\\\"b\\n\"}}", "{{printf \"%x %X\" \"hi\" \"hi\"}}", "{{printf \"%10s|%-10s|%.2s\" \"abc\" \"abc\" \"abc\"}}", "{{printf \"%%\"}}", "{{printf \"%\"}}", "{{printf \"%z\" 1}}", "{{printf \"%*d\" 5 42}}", "{{printf \"%v\" .list}}", "{{printf \"%v\" .m}}", "{{printf \"%s\" .list}}", "{{printf \"%6.2f%%\" .f}}", "{{printf \"%v\" nil}}", "{{printf \"% d\" 5}}", "{{printf \"%#x\" 255}}", "{{printf \"%q\" 65}}", "{{printf \"%f\" 1}}", "{{printf \"%.0f\" 2.5}}", "{{printf \"%T %T %T\" 1 1.5 \"s\"}}", "{{printf \"%08.3f\" -3.14159}}", "{{printf \"%v\" 1e6}}", "{{printf \"%v\" 100000.0}}", "{{printf \"%.1f\" 0.25}}",
	"{{len .list}} {{len .name}} {{len .m}}", "{{index .list 1}}", "{{index .m \"a\"}}", "{{index .m \"zz\"}}", "{{index .list 9}}", "{{index .list \"a\"}}", "{{slice .name 1 3}}", "{{slice .list 1}}", "{{slice .name 3 1}}", "{{index .list}}", "{{len 3}}",
	"{{eq 1 1}} {{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 3 2}} {{ge 1 2}}", "{{eq .name \"anna\"}}", "{{eq 1 1.0}}", "{{lt 1.5 2.5}}", "{{lt \"a\" \"b\"}}", "{{gt .f 1}}", "{{gt .f 1.0}}", "{{eq 1}}", "{{eq true true}}", "{{lt true false}}", "{{eq .list .list}}", "{{eq \"a\" \"b\" \"a\"}}",
	"{{and 1 0 2}} {{or 0 \"\" 3}} {{not true}} {{and true .name}} {{or .empty .name}}", "{{and false (index .list 99)}}", "{{or true (index .list 99)}}", "{{not}}", "{{and}}", "{{if and .name (gt .n 40)}}yes{{end}}", "{{if not .empty}}e{{end}}",
	"{{print 1 2 \"x\" 3}}", "{{print \"a\" \"b\"}}", "{{print 1 \"a\" 2.5 true}}", "{{println 1 \"x\"}}", "{{html \"<a href='x'>&\\\"\"}}", "{{js \"it's <b>\"}}", "{{urlquery \"a b&c=d/é\"}}", "{{.name | html}}",
	"{{`raw \\n {{`}}", "{{\"\\u00e9\\x41\\101\"}}", "{{'a'}}", "{{0x10}} {{1_000}} {{010}} {{0b11}} {{+5}} {{-5}} {{.5}} {{1.5e3}}", "{{true}} {{false}}", "{{nil}}", "{{1 | print | len}}", "{{(len .list)}}", "{{(index .objs 0).k}}", "{{.m.a.b}}", "{{.name.x}}", "{{.f.x}}", "{{.name \"x\"}}", "{{3 4}}", "{{nofunc 1}}", "{{", "{{}}", "{{.name", "{{if}}x{{end}}", "{{if true}}", "{{end}}", "{{else}}", "{{range .list}}{{.}}{{else}}{{else}}{{end}}", "{{.name | 3}}", "{{3 | .name}}", "{{define \"x\"}}", "{{\"unterminated}}", "{{(len .list}}", "{{len .list)}}", "{{.name}}}}", "}}", "{{{.name}}}", "{{.list | len | printf \"%03d\"}}", "{{range $i, $e := .list}}{{if $i}}, {{end}}{{$e}}{{end}}", "{{with index .m \"a\"}}{{.}}{{end}}", "{{$a := .m}}{{$a.a}} {{$a.b}}", "{{$x, $y := 1}}", "{{if $x := .name}}{{$x}}{{end}}", "{{if $x := .name}}{{end}}{{$x}}", "{{range $x := .list}}{{end}}{{$x}}", "{{len\n.list}}", "{{/* a\nb */}}{{.nope.nope}}", "{{.n}}{{/* x */ -}} y", "{{ .name| printf `%s` }}", "{{printf \"%s\" (printf \"%s\" .name)}}", "{{.m.a | len | eq 1}}", "{{-.n}}", "{{range .objs}}{{.k}}{{range $k, $v := .}}{{$k}}{{end}}{{end}}", "{{with .objs}}{{(index . 1).k}}{{end}}", "{{index .objs 1 \"k\"}}", "{{ .name }}\n{{- .n }}\n", "{{ 1.0 }} {{ 1e3 }} {{ 2.50 }}",
}

func main() {
	type M = map[string]any
	sm := map[string]string{"a": "1", "b": "2"}
	data := M{"name": "anna", "m": sm, "list": []string{"a", "b", "c"}, "n": 42, "f": 3.25125, "t": true, "big": 1.5e22, "small": 1.5e-7, "empty": "", "zero": 0, "none": []string{}, "objs": []map[string]string{{"k": "v1"}, {"k": "v2"}}}
	var out [][]any
	for _, text := range templates {
		t, err := template.New("t").Option("missingkey=zero").Parse(text)
		var b strings.Builder
		if err == nil {
			err = t.Execute(&b, data)
		}
		if err != nil {
			out = append(out, []any{text, nil, err.Error()})
		} else {
			out = append(out, []any{text, b.String(), ""})
		}
	}
	f, _ := os.Create("../template.json")
	f.WriteString("[\n")
	for i, c := range out {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.Encode(c)
		f.WriteString(strings.TrimSpace(b.String()))
		if i < len(out)-1 {
			f.WriteString(",")
		}
		f.WriteString("\n")
	}
	f.WriteString("]\n")
}
