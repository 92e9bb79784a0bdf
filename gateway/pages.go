package gateway

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

//go:embed problems.html
var problemsHTML string

// problemView is what problems.html shows: one entry, or all.
type problemView struct {
	One     *Entry
	All     []Entry
	Version string
}

var problemsPage = template.Must(template.New("problems").Funcs(template.FuncMap{"quoted": quoted}).Parse(problemsHTML))

// piece is a part of a text: words, or code.
type piece struct {
	Text string
	Code bool
}

// quoted cuts a text at its backquotes: every second piece is code.
func quoted(s string) []piece {
	var out []piece
	for i, text := range strings.Split(s, "`") {
		out = append(out, piece{text, i%2 == 1})
	}
	return out
}

func (g *Handler) problemPages(c *gin.Context) { g.showProblems(c, problemView{All: table}) }

// problemPage is where a problem's `type` leads: what the code means and what to do, in English and 中文.
func (g *Handler) problemPage(c *gin.Context) {
	e, ok := entries[Code(c.Param("code"))]
	if !ok {
		g.refuse(c, errNoRoute)
		return
	}
	g.showProblems(c, problemView{One: e})
}

func (g *Handler) showProblems(c *gin.Context, v problemView) {
	v.Version = g.version
	var b bytes.Buffer
	if err := problemsPage.Execute(&b, v); err != nil {
		g.refuse(c, err)
		return
	}
	h := c.Writer.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	c.Data(http.StatusOK, "text/html; charset=utf-8", b.Bytes())
}
