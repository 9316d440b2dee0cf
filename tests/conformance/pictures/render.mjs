// Pictures of messages: `node render.mjs BODIES OUT`. BODIES has a file <service>/<message>.json each; OUT gets a picture of each service
// at two widths, light and dark, with all messages one below the other. Prints how high each is on a phone.
// CHROMIUM names the browser, ADAPTIVECARDS the script of Microsoft's renderer. Exits 1 where something runs out of its message.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [bodies, out] = process.argv.slice(2).map((path) => resolve(path));
const here = import.meta.dirname;
const script = [process.env.ADAPTIVECARDS, join(here, "page.js")].map((path) => readFileSync(path, "utf8")).join("\n;\n");
const css = readFileSync(join(here, "page.css"), "utf8");
const work = mkdtempSync(join(tmpdir(), "pictures-"));
const WIDTHS = { phone: 390, desk: 900 };

// One run of the browser, with a profile of its own.
function browser(page, width, height, ...options) {
    const profile = mkdtempSync(join(work, "profile-"));
    const quiet = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"];
    quiet.push("disable-component-update", "disable-sync", "hide-scrollbars", "force-device-scale-factor=1");
    const flags = ["headless", ...quiet, `user-data-dir=${profile}`, `window-size=${width},${height}`, ...options];
    const chromium = process.env.CHROMIUM ?? "chromium";
    const stdio = ["ignore", "pipe", "ignore"];
    const url = pathToFileURL(page).href;
    return execFileSync(chromium, [...flags.map((flag) => `--${flag}`), url], { encoding: "utf8", stdio, maxBuffer: 1 << 28, timeout: 120_000 });
}

// The page says itself how wide it is: a window may be no narrower than the browser likes.
function page(service, width, isDark, messages) {
    const style = [service, width, isDark ? "dark" : "light"].join(" ");
    const data = JSON.stringify({ service, isDark, messages }).replaceAll("<", "\\u003c");
    const safe = script.replaceAll("</script", "<\\/script");
    const html = `<!doctype html><meta charset="utf-8"><style>${css}</style><body class="${style}" style="width: ${WIDTHS[width]}px">
<script type="application/json" id="messages">${data}</script><script>${safe}</script></body>`;
    const path = join(work, `${service}-${width}-${isDark ? "dark" : "light"}.html`);
    writeFileSync(path, html);
    return path;
}

const unescaped = (html) => html.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"').replaceAll("&amp;", "&");

mkdirSync(out, { recursive: true });
const heights = {};
let wrong = 0;
try {
    const services = readdirSync(bodies).sort();
    for (const service of services) {
        const files = readdirSync(join(bodies, service)).sort();
        const messages = files.map((file) => ({ name: file.replace(/\.json$/, ""), body: JSON.parse(readFileSync(join(bodies, service, file), "utf8")) }));
        for (const [width, pixels] of Object.entries(WIDTHS)) {
            for (const isDark of [false, true]) {
                const path = page(service, width, isDark, messages);
                const dom = browser(path, pixels, 800, "dump-dom");
                const found = /<pre [^>]*id="found"[^>]*>(.*?)<\/pre>/s.exec(dom);
                if (!found) throw new Error(`${service}: ${/id="wrong">(.*?)<\/pre>/s.exec(dom)?.[1] ?? "the page is not there"}`);
                const measured = JSON.parse(unescaped(found[1]));
                const total = measured.reduce((sum, { height }) => sum + height + 40, 100);
                browser(path, pixels, total, `screenshot=${join(out, `${service}-${width}-${isDark ? "dark" : "light"}.png`)}`);
                for (const { name, height, out: over } of measured) {
                    if (width === "phone" && !isDark) (heights[name] ??= {})[service] = height;
                    if (over.length > 0) {
                        wrong += 1;
                        console.error(`${service}, ${width}: ${name} runs out of its message: ${over.at(-1)}`);
                    }
                }
            }
        }
    }
    const row = (cells) => `| ${cells.join(" | ")} |`;
    console.log([row(["message, pixels on a phone", ...services]), row(["---", ...services.map(() => "---:")])].join("\n"));
    for (const [name, of] of Object.entries(heights)) console.log(row([name, ...services.map((service) => of[service] ?? "")]));
} finally {
    rmSync(work, { recursive: true, force: true });
}
process.exit(wrong > 0 ? 1 : 0);
