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

/** A form of one action: its fields, a button, and what came of it. */
export function action(
  label: string,
  fields: HTMLElement[],
  act: (given: FormData) => Promise<string>,
): HTMLFormElement {
  const told = make("output");
  const button = make("button", { type: "submit" }, label);
  const form = make("form", { className: "action" }, ...fields, button, told);
  form.onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    told.textContent = "";
    try {
      told.textContent = await act(new FormData(form));
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
