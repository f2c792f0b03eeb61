/** Small parts of the page that several views use. */

/** An element with its text or its children. */
export function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Partial<HTMLElementTagNameMap[Name]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

/**
 * A form of one action: its fields, a button, and what came of it. `sure` asks before what cannot
 * be taken back; without a question it is done at once.
 */
export function action(
  label: string,
  fields: HTMLElement[],
  act: (given: FormData) => Promise<string>,
  sure: (given: FormData) => string = () => "",
): HTMLFormElement {
  const told = make("output");
  const button = make("button", { type: "submit" }, label);
  const form = make("form", { className: "action" }, ...fields, button, told);
  form.onsubmit = async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    told.textContent = "";
    const question = sure(given);
    if (question !== "" && !confirm(question)) return;
    button.disabled = true;
    try {
      told.textContent = await act(given);
      told.className = "done";
    } catch (error) {
      told.textContent = (error as Error).message;
      told.className = "wrong";
    }
    button.disabled = false;
  };
  return form;
}

/** A field with its label. */
export function field(
  label: string,
  name: string,
  properties: Partial<HTMLInputElement> = {},
): HTMLElement {
  return make("label", {}, `${label} `, make("input", { name, ...properties }));
}

/** One of several: their values, with the names they have here. */
export function choice(
  label: string,
  name: string,
  options: Record<string, string>,
): HTMLSelectElement {
  const all = Object.entries(options).map(([value, text]) => make("option", { value }, text));
  const select = make("select", { name }, ...all);
  select.setAttribute("aria-label", label);
  return select;
}

/** Lines of text, without a label that is seen. */
export function area(
  label: string,
  name: string,
  properties: Partial<HTMLTextAreaElement> = {},
): HTMLTextAreaElement {
  const element = make("textarea", { name, ...properties });
  element.setAttribute("aria-label", label);
  return element;
}
