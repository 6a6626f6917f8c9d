// SPDX-License-Identifier: Apache-2.0
//
// The table as a page to read: an article for each endpoint, grouped by the branch of the tree. It is readable without a script; the script,
// a file of its own as the content security policy wants it, hides what a search does not find.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/api_internal.h"

static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n<title>wirt: the interface</title>\n"
    "<style>\n"
    ":root { font: 16px/1.5 system-ui, sans-serif; } body { max-width: 72rem; margin: 0 auto; "
    "padding: 1rem; }\n"
    "h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; } h3 a { color: inherit; "
    "text-decoration: none; }\n"
    "code, .method { font-family: ui-monospace, monospace; } .method { display: inline-block; "
    "min-width: 4.5em; font-weight: bold; }\n"
    "article { border: 1px solid #8886; border-radius: .5rem; padding: .75rem 1rem; margin: .75rem "
    "0; }\n"
    "article p { margin: .25rem 0; } .scroll { overflow-x: auto; } table { border-collapse: "
    "collapse; width: 100%; font-size: .9rem; }\n"
    "th, td { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-top: 1px "
    "solid #8884; } th[scope=col] { border: 0; }\n"
    "#bar { position: sticky; top: 0; background: Canvas; padding: .5rem 0; display: flex; gap: "
    "1rem; align-items: center; }\n"
    "#search { font: inherit; padding: .4rem .6rem; flex: 1; } [hidden] { display: none; }\n"
    "</style>\n<script src=\"api.js\" defer></script>\n</head>\n<body>\n"
    "<h1>The interface of wirt</h1>\n"
    "<p>Paths stand behind <code>/api2/json</code>; bodies are forms or JSON. An answer is "
    "<code>{\"data\": …}</code>, "
    "a refusal has <code>message</code> and, for wrong parameters, <code>errors</code>. "
    "<code>upid</code> is the id of a task: "
    "<code>/nodes/{node}/tasks/{upid}/status</code> tells how it is doing. In answers "
    "<code>?</code> marks a member that may be "
    "missing, <code>*</code> that there may be more; <code>bool</code> is 0 or 1. In permissions "
    "<code>&amp;</code> binds closer than "
    "<code>|</code>, and <code>A|B</code> behind a path means one of them.</p>\n"
    "<div id=\"bar\"><input id=\"search\" type=\"search\" aria-label=\"Search\" "
    "placeholder=\"Search: words of paths, "
    "parameters, privileges\" disabled><output id=\"count\" for=\"search\"></output></div>\n";

const char api_document_script[] =
    "// SPDX-License-Identifier: Apache-2.0\n"
    "const search = document.getElementById(\"search\"), count = "
    "document.getElementById(\"count\");\n"
    "const all = [...document.querySelectorAll(\"article\")].map((element) => ({ element, text: "
    "element.textContent.toLowerCase() }));\n"
    "function show() {\n"
    "    const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);\n"
    "    let found = 0;\n"
    "    for (const one of all) {\n"
    "        one.element.hidden = !words.every((word) => one.text.includes(word));\n"
    "        found += one.element.hidden ? 0 : 1;\n"
    "    }\n"
    "    for (const group of document.querySelectorAll(\"section\"))\n"
    "        group.hidden = !group.querySelector(\"article:not([hidden])\");\n"
    "    count.textContent = `${found} of ${all.length}`;\n"
    "}\n"
    "search.disabled = false;\n"
    "search.value = new URLSearchParams(location.search).get(\"search\") ?? \"\";\n"
    "search.addEventListener(\"input\", show);\n"
    "show();\n"
    "search.focus();\n";

static void put_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        const char *word = *text == '&'   ? "&amp;"
                           : *text == '<' ? "&lt;"
                           : *text == '>' ? "&gt;"
                           : *text == '"' ? "&quot;"
                                          : NULL;
        if (word)
            fputs(word, out);
        else
            fputc(*text, out);
    }
}

static const char *text_of(const json_t *row, const char *name)
{
    return json_string_value(json_object_get(row, name));
}

static void put_line(FILE *out, const char *label, const char *text, bool code)
{
    if (!text)
        return;
    fprintf(out, "<p>%s: %s", label, code ? "<code>" : "");
    put_text(out, text);
    fprintf(out, "%s</p>\n", code ? "</code>" : "");
}

// "get-nodes-node-qemu": for links to it.
static void put_name(FILE *out, const json_t *row)
{
    const char *const parts[] = {text_of(row, "method"), text_of(row, "path")};
    for (size_t i = 0; i < 2; i++)
        for (const char *c = parts[i]; *c; c++)
            if (isalnum((unsigned char)*c))
                fputc(tolower((unsigned char)*c), out);
            else if (*c == '/' || *c == '-')
                fputc('-', out);
}

// What values it takes: bounds, words, form, default.
static void put_values(FILE *out, const json_t *param)
{
    const char *type = text_of(param, "type"), *values = text_of(param, "enum");
    bool number = !strcmp(type, "integer") || !strcmp(type, "number");
    const json_t *min = json_object_get(param, "minimum"), *max = json_object_get(param, "maximum");
    fputs(type, out);
    if (min && number)
        fprintf(out, ", %lld to %lld", (long long)json_integer_value(min),
                (long long)json_integer_value(max));
    else if (max)
        fprintf(out, ", at most %lld long", (long long)json_integer_value(max));
    if (values) {
        fputs(": ", out);
        put_text(out, values);
    }
    if (text_of(param, "format")) {
        fputs(", ", out);
        put_text(out, text_of(param, "format"));
    }
    if (text_of(param, "default")) {
        fputs("; default ", out);
        put_text(out, text_of(param, "default"));
    }
}

static void put_param(FILE *out, const json_t *param)
{
    const char *const needs[] = {text_of(param, "permission"),
                                 text_of(param, "permission_by_value")};
    fputs("<tr><th scope=\"row\"><code>", out);
    put_text(out, text_of(param, "name"));
    fprintf(out, "</code>%s</th><td>", json_object_get(param, "optional") ? "" : " (required)");
    put_values(out, param);
    fputs("</td><td>", out);
    put_text(out, text_of(param, "description") ? text_of(param, "description") : "");
    for (size_t i = 0; i < 2; i++)
        if (needs[i]) {
            fputs("<br>Needs <code>", out);
            put_text(out, needs[i]);
            fputs("</code>", out);
        }
    fputs("</td></tr>\n", out);
}

static void put_endpoint(FILE *out, const json_t *row)
{
    const json_t *params = json_object_get(row, "parameters");
    size_t index;
    json_t *param;
    fputs("<article id=\"", out);
    put_name(out, row);
    fputs("\">\n<h3><a href=\"#", out);
    put_name(out, row);
    fprintf(out, "\"><span class=\"method\">%s</span> <code>", text_of(row, "method"));
    put_text(out, text_of(row, "path"));
    fputs("</code></a></h3>\n<p>", out);
    put_text(out, text_of(row, "description"));
    fputs("</p>\n", out);
    put_line(out, "Permission", text_of(row, "permission"), true);
    put_line(out, "Also", text_of(row, "also"), false);
    put_line(out, "Rows for which one has", text_of(row, "filter"), true);
    if (json_array_size(params)) {
        fputs("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Parameter</th><th "
              "scope=\"col\">Values</th>"
              "<th scope=\"col\">What it is</th></tr></thead><tbody>\n",
              out);
        json_array_foreach((json_t *)(uintptr_t)params, index, param) put_param(out, param);
        fputs("</tbody></table></div>\n", out);
    }
    put_line(out, "Returns", text_of(row, "returns"), true);
    put_line(out, "Task", text_of(row, "task"), true);
    fputs("</article>\n", out);
}

// "/nodes/{node}/qemu": a VM's branch is one of its own, others are told by their first part.
static void branch_of(const json_t *row, char branch[64])
{
    static const char *const below[] = {"/nodes/{node}/qemu", "/nodes/{node}/storage",
                                        "/nodes/{node}/tasks"};
    const char *path = text_of(row, "path");
    snprintf(branch, 64, "%.*s", (int)(1 + strcspn(path + 1, "/")), path);
    for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++)
        if (!strncmp(path, below[i], strlen(below[i])))
            snprintf(branch, 64, "%s", below[i]);
}

static int by_path(const void *a, const void *b)
{
    static const char *const order[] = {"GET", "POST", "PUT", "DELETE"};
    const json_t *const rows[] = {*(json_t *const *)a, *(json_t *const *)b};
    char branches[2][64];
    size_t at[2] = {0};
    for (size_t i = 0; i < 2; i++) {
        branch_of(rows[i], branches[i]);
        while (at[i] < 3 && strcmp(order[at[i]], text_of(rows[i], "method")) != 0)
            at[i]++;
    }
    int result = strcmp(branches[0], branches[1]);
    if (!result)
        result = strcmp(text_of(rows[0], "path"), text_of(rows[1], "path"));
    return result ? result : (int)at[0] - (int)at[1];
}

char *api_document(const struct endpoint *const *tables, const struct api_param *common,
                   size_t *length)
{
    json_t *table = api_describe(tables, common), *row;
    json_t **sorted = calloc(json_array_size(table) + 1, sizeof(json_t *));
    size_t index, count = json_array_size(table);
    char *text = NULL, last[64] = "", branch[64];
    FILE *out = open_memstream(&text, length);
    if (!sorted || !out)
        abort();
    json_array_foreach(table, index, row) sorted[index] = row;
    qsort(sorted, count, sizeof(json_t *), by_path);
    fputs(head, out);
    for (size_t i = 0; i < count; i++) {
        branch_of(sorted[i], branch);
        if (strcmp(branch, last) != 0) {
            fprintf(out, "%s<section>\n<h2>%s</h2>\n", *last ? "</section>\n" : "", branch);
            memcpy(last, branch, sizeof(last));
        }
        put_endpoint(out, sorted[i]);
    }
    fputs("</section>\n</body>\n</html>\n", out);
    fclose(out);
    free(sorted);
    json_decref(table);
    return text;
}
