// Shows messages as the chat services show them: Teams by Microsoft's own renderer, the others after their documented rules.
// What a message should not have (markup that came through, a mention of everybody, an address that became a link) shows too.
// Writes into `#found` how high each message is, and what runs out of it.

window.addEventListener("error", ({ message }) => document.body.append(Object.assign(make("pre", "", message), { id: "wrong" })));

const make = (tag, style, ...children) => {
    const element = document.createElement(tag);
    if (style) element.className = style;
    element.append(...children.filter((child) => child));
    return element;
};
const link = (text, url) => Object.assign(make("a", "", ...text), { href: url });
const mention = (text) => make("span", "mention", text);

// A text with the marks of one service: each a pattern at the place, and what is made of its match.
function marked(text, marks) {
    const nodes = [];
    let plain = "";
    const flush = () => {
        if (plain) nodes.push(plain);
        plain = "";
    };
    for (let at = 0; at < text.length; ) {
        let found = null;
        for (const [pattern, show] of marks) {
            pattern.lastIndex = at;
            const match = pattern.exec(text);
            const shown = match && show(match, text[at - 1] ?? " ");
            if (shown) {
                found = [match[0].length, shown];
                break;
            }
        }
        if (!found) {
            plain += text[at++];
        } else if (typeof found[1] === "string") {
            plain += found[1];
            at += found[0];
        } else {
            flush();
            nodes.push(found[1]);
            at += found[0];
        }
    }
    flush();
    return nodes;
}

// Slack's mrkdwn: https://docs.slack.dev/messaging/formatting-message-text. Marks hold at the borders of words.
const entities = { amp: "&", lt: "<", gt: ">" };
const within = (tag) => (match, before) => (/\w/.test(before) ? null : make(tag, "", ...mrkdwn(match[1])));
const slackMarks = [
    [/&(amp|lt|gt);/y, (match) => entities[match[1]]],
    [/<(https?:\/\/[^|>]+)\|([^>]+)>/y, (match) => link(mrkdwn(match[2]), match[1].replaceAll("&amp;", "&"))],
    [/<(https?:\/\/[^|>]+)>/y, (match) => link([match[1]], match[1])],
    [/<@(\w+)>/y, () => mention("@Dana Lead")],
    [/<!subteam\^(\w+)>/y, () => mention("@leads")],
    [/<!(\w+)>/y, (match) => mention(`@${match[1]}`)],
    [/\*(?=\S)([^*\n]*\S)\*(?!\w)/y, within("b")],
    [/_(?=\S)([^_\n]*\S)_(?!\w)/y, within("i")],
    [/~(?=\S)([^~\n]*\S)~(?!\w)/y, within("s")],
    [/`([^`\n]+)`/y, (match) => make("code", "", ...mrkdwn(match[1]))],
    [/:(tada|x|warning|white_check_mark|skull):/y, () => make("span", "mention", "🎉")],
];
const mrkdwn = (text) => marked(text, slackMarks);
const slackText = ({ type, text }) => (type === "mrkdwn" ? mrkdwn(text) : [text]);

function slackBlock(block) {
    switch (block.type) {
        case "header":
            return make("div", "header", ...slackText(block.text));
        case "section":
            return make(
                "div",
                "section",
                block.text && make("div", "text", ...slackText(block.text)),
                block.fields && make("div", "fields", ...block.fields.map((one) => make("div", "text", ...slackText(one)))),
            );
        case "context":
            return make("div", "context", ...block.elements.map((one) => make("span", "text", ...slackText(one))));
        default:
            throw new Error(`a block that nobody knows: ${block.type}`);
    }
}

function slack(body) {
    const attachments = (body.attachments ?? []).map((one) => {
        const attachment = make("div", "attachment", ...one.blocks.map(slackBlock));
        attachment.style.borderColor = one.color ?? "";
        return attachment;
    });
    return said(...(body.blocks ?? []).map(slackBlock), ...attachments);
}

// Discord's and Mattermost's Markdown.
const around = (tag, style) => (match) => make(tag, style, ...markdown(match[1]));
const markdownMarks = [
    [/\\([!-/:-@[-`{-~])/y, (match) => match[1]],
    [/\[((?:[^\]\\]|\\.)+)\]\((https?:\/\/[^)\s]+)\)/y, (match) => link(markdown(match[1]), match[2])],
    [/<@!?(\d+)>/y, () => mention("@Dana Lead")],
    [/<@&(\d+)>/y, () => mention("@role")],
    [/@(everyone|here|channel|all)\b/y, (match) => mention(match[0])],
    [/\*\*((?:[^*\\]|\\.)+)\*\*/y, around("b")],
    [/__((?:[^_\\]|\\.)+)__/y, around("u")],
    [/\*((?:[^*\\\s]|\\.)(?:[^*\\]|\\.)*)\*/y, around("i")],
    [/_((?:[^_\\\s]|\\.)(?:[^_\\]|\\.)*)_(?!\w)/y, (match, before) => (/\w/.test(before) ? null : around("i")(match))],
    [/~~((?:[^~\\]|\\.)+)~~/y, around("s")],
    [/\|\|((?:[^|\\]|\\.)+)\|\|/y, around("span", "spoiler")],
    [/`([^`\n]+)`/y, (match) => make("code", "", match[1])],
    [/discord(app)?\.(gg|com\/invite)\/\w+/yi, () => mention("a card that invites")],
    [/www\.[^\s<>]+/yi, (match, before) => (/\w/.test(before) ? null : link([match[0]], `https://${match[0]}`))],
    [/https?:\/\/[^\s<>]+/y, (match) => link([match[0]], match[0])],
    [/:(tada|x|warning|white_check_mark|skull):/y, () => make("span", "mention", "🎉")],
];
const markdown = (text) => marked(text, markdownMarks);

function discord(body) {
    const embeds = (body.embeds ?? []).map((one) => {
        const shown = one.title && markdown(one.title);
        const field = ({ name, value, inline }) =>
            make("div", inline ? "field inline" : "field", make("b", "", ...markdown(name)), make("div", "", ...markdown(value)));
        const foot = [one.footer?.text, one.timestamp && "Today at 10:12"].filter(Boolean).join(" • ");
        const embed = make(
            "div",
            "embed",
            shown && make("div", "title", ...(one.url ? [link(shown, one.url)] : shown)),
            one.description && make("div", "description", ...markdown(one.description)),
            one.fields && make("div", "fields", ...one.fields.map(field)),
            foot && make("div", "footer", foot),
        );
        if (one.color) embed.style.borderColor = `#${one.color.toString(16).padStart(6, "0")}`;
        return embed;
    });
    return said(body.content && make("div", "text", ...markdown(body.content)), ...embeds);
}

function mattermost(body) {
    const owned = [[/@lead\b/y, () => mention("@lead")], ...markdownMarks];
    const attachments = (body.attachments ?? []).map((one) => {
        const fields = (one.fields ?? []).map(({ title, value, short }) =>
            make("div", short ? "field inline" : "field", make("b", "", ...markdown(title)), make("div", "", ...markdown(value))));
        const parts = [one.pretext, one.title, one.text].filter(Boolean).map((text) => make("div", "text", ...markdown(text)));
        const attachment = make("div", "attachment", ...parts, make("div", "fields", ...fields));
        attachment.style.borderColor = one.color ?? "";
        return attachment;
    });
    return said(body.text && make("div", "text", ...marked(body.text, owned)), ...attachments);
}

function said(...children) {
    const who = make("div", "who", make("b", "", "spec-notify"), make("span", "app", "APP"), make("span", "at", "10:12"));
    return make("div", "post", make("div", "avatar", "S"), make("div", "said", who, ...children));
}

// Measures of a card in Teams: https://learn.microsoft.com/adaptive-cards/rendering-cards/host-config.
function hostConfig(isDark) {
    const [text, subtle] = isDark ? ["#ffffff", "#adadad"] : ["#242424", "#616161"];
    const colours = {
        default: { default: text, subtle },
        accent: { default: "#6264a7", subtle: "#6264a7" },
        good: { default: isDark ? "#92c353" : "#237b4b", subtle },
        warning: { default: isDark ? "#ffaa44" : "#835c00", subtle },
        attention: { default: isDark ? "#e37d80" : "#c4314b", subtle },
    };
    const style = (light, dark) => ({ backgroundColor: isDark ? dark : light, foregroundColors: colours });
    return {
        fontFamily: "inherit",
        fontSizes: { small: 12, default: 14, medium: 14, large: 18, extraLarge: 24 },
        fontWeights: { lighter: 300, default: 400, bolder: 600 },
        lineHeights: { small: 16, default: 20, medium: 20, large: 24, extraLarge: 32 },
        spacing: { small: 4, default: 8, medium: 12, large: 16, extraLarge: 20, padding: 12 },
        containerStyles: {
            default: style("#ffffff", "#292929"),
            emphasis: style("#f0f0f0", "#383838"),
            good: style("#e7f2e9", "#1e3524"),
            attention: style("#fcecee", "#3f2125"),
            warning: style("#fbf4e4", "#3a3020"),
            accent: style("#e8ebfa", "#2b2b40"),
        },
        actions: { maxActions: 6, spacing: "default", buttonSpacing: 8, actionsOrientation: "horizontal", actionAlignment: "left" },
        factSet: { title: { weight: "bolder", wrap: false, maxWidth: 150 }, value: { wrap: true }, spacing: 12 },
    };
}

function teams(body, isDark) {
    const card = new AdaptiveCards.AdaptiveCard();
    card.hostConfig = new AdaptiveCards.HostConfig(hostConfig(isDark));
    card.parse(body.attachments[0].content);
    const rendered = card.render();
    for (const text of rendered.querySelectorAll(".ac-textBlock")) {
        const [before, owner, after] = text.textContent.split(/<at>(.*?)<\/at>/);
        if (owner) text.replaceChildren(before, mention("Dana Lead"), after);
    }
    return make("div", "card", rendered);
}

const services = { slack, discord, teams, mattermost };
const { service, isDark, messages } = JSON.parse(document.getElementById("messages").textContent);
AdaptiveCards.AdaptiveCard.onProcessMarkdown = (text, result) => {
    result.didProcess = false;
};
const found = messages.map(({ name, body }) => {
    const message = make("div", "message", services[service](body, isDark));
    document.body.append(make("div", "name", name), message);
    const { height, right } = message.getBoundingClientRect();
    const isOut = (one) => {
        const box = one.getBoundingClientRect();
        const isCut = one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1;
        return box.right > right + 0.5 || isCut || (one.tagName === "BUTTON" && box.width < 40);
    };
    const out = [...message.querySelectorAll("*")].filter(isOut);
    return { name, height: Math.round(height), out: out.map((one) => one.textContent.slice(0, 60)) };
});
document.body.append(Object.assign(make("pre", "", JSON.stringify(found)), { id: "found", hidden: true }));
